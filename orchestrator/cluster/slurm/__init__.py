"""Slurm: the batch script that runs a sweep in an allocation, and what the scheduler answers."""
