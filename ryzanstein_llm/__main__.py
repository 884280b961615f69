"""`python -m ryzanstein_llm` is the command `ryzanstein-llm`."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
