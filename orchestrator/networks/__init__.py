"""Trained networks: found, sampled, exported, animated, played with."""
