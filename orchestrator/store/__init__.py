"""The store of results: places (a folder, S3), leases, finished stages, and warnings about them."""
