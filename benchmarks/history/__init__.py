"""Runs of the six benchmarks that are kept in the repository: one small JSON file a run, in this
folder, its name beginning with the date.

    python -m pytest benchmarks --model=big --benchmark-json=run.json
    python -m benchmarks.history check run.json     # against what is kept: no more than 10 % lost
    python -m benchmarks.history add run.json
    python -m benchmarks.history show
    python -m benchmarks.history machines     # machines of different kinds, each by its own limits
"""

from __future__ import annotations
