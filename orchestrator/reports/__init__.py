"""A sweep's report: one HTML page with interactive figures, PNG figures, and the numbers behind
them."""
