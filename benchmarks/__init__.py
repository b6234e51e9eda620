"""Measurements of speed and memory, mostly as ratios within one run: `python -m benchmarks`, or one
part of it by name.

Machines and their load differ: calls that are compared are measured in turns, and the table has the
median of the ratios with its quartiles. `docs/performance.md` explains the results."""
