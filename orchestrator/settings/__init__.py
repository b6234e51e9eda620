"""Reads an experiment file into checked settings. No heavy module is imported, so a faulty file is
refused within 0.2 seconds."""
