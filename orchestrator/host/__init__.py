"""What this process and its machine allow, and how a command speaks to its terminal: processors, mounts, output,
commands to type.
"""
