"""What has to be true of a cluster's nodes before work on them is paid for."""
