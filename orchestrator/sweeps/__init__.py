"""A sweep's folder: its records, opening it again, ranking its trials, what of the store it
needs."""
