"""Runs experiments: from a YAML file to trained flows, samples and numbers, on one machine or a Ray
cluster."""
