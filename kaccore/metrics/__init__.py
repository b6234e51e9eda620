"""How good samples are: FID and its kin, the features that they are made of, Wasserstein
distances."""
