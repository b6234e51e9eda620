"""Ray: the connection, its resources, and what has to be true of its nodes."""
