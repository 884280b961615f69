"""What the six benchmarks of `benchmarks/bench_*.py` share: the model they measure, their criteria,
the baseline, and the tools that look from outside (perf, valgrind)."""

from __future__ import annotations
