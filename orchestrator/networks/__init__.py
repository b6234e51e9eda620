"""Trained networks: look-up, sampling settings, export, animation, playground."""
