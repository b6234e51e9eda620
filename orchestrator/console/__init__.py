"""What commands share: arguments, exit status, the dry run, the live view, the closing table."""
