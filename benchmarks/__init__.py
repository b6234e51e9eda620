"""Measurements of speed and memory, as ratios within one run: `python -m benchmarks`, or a part of
it by name.

Machines differ, and so does what else runs on them: what is compared is measured in turns, and the
median of the ratios is given with its quartiles. `docs/performance.md` explains what the figures
mean."""
