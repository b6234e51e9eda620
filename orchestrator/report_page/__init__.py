"""A sweep's report: one HTML page with interactive figures, to be sent to somebody who has nothing else.

results: means and spreads of what was measured    series: what each figure shows, as plain numbers
charts: the figures of the page                    strips, table, page: pictures, table, and all of it put together
"""
