"""The quality of samples: FID and related metrics, the features that they use, Wasserstein
distances."""
