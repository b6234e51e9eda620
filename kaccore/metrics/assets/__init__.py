"""Weights of the small classifiers whose features FID uses on digits and mnist, and the script that
makes them."""
