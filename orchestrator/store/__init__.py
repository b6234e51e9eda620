"""Where results lie: places (a folder, S3), leases, finished stages, and what is kept beside
them."""
