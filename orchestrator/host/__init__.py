"""What this process may use of its machine, and how a command writes to its terminal."""
