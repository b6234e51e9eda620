"""Checks of a cluster's nodes before a run starts on them."""
