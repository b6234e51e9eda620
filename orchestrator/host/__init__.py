"""What this process may use of its machine, and how a command speaks to its terminal."""
