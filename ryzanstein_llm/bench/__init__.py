"""Speed against the limits of the machine, measured in one run, with the outputs checked.

    from ryzanstein_llm import bench
    report = bench.run(quick=True)        # the demo model; a path, or preset=..., for another
    print(report.text())

Decoding reads all weights for each token, so its limit is memory bandwidth. A prompt is
arithmetic, so its limit is int8 multiply-adds. Both limits are measured in each round together
with the cases, because a shared machine changes from minute to minute.
"""

from __future__ import annotations

from .benchmark import run
from .figures import Row, Spread
from .limits import measure_limits
from .report import BenchReport
from .schedule import Sample

__all__ = ["BenchReport", "Row", "Sample", "Spread", "measure_limits", "run"]
