"""Methods: the kinds of paths, networks, distillers, data sets and feature extractors, a module each.

`path_kind`, `network_kind`, `distiller_kind`, `dataset_kind` and `feature_kind` define their
interfaces; a plugin subclasses the same classes."""
