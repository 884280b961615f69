"""Makes PERFORMANCE.md: tables and plots from JSON, prose from the files in this folder.

    ryzanstein-llm bench --model big --threads 1 2 --json > bench.json
    python -m benchmarks.performance add bench.json            # bench and peers, under results/
    python -m benchmarks.history add run.json                  # the six
    python -m benchmarks.performance build

`template.md` is the document; a line `{{name}}` is a table of `tables.py`, `{{plot name}}` a plot
of `plots.py`, `{{include name.md}}` another file of this folder. What was not measured says so.
"""

from __future__ import annotations
