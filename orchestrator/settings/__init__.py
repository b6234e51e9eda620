"""From an experiment's file to its checked settings. Nothing heavy is imported: a refusal takes 0.2
seconds."""
