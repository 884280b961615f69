"""Many generations of every kind, after which the process holds what it held after a warm-up:

    python tests/leaks --generations 10000

Ends with 1 if it holds more. With `--cache-bytes 8388608`, the budget of keys and values is always
used up, and some things happen only if it is, or only if it is not. `--only` runs the kinds that
are named, to find which one it is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from mixture import Mixture
from resources import Resources

from ryzanstein_llm import BitNetModel


def allowed(generations: int) -> Resources:
    """How much more there may be: a part for what is in use at one moment and not at another, and a
    part for what fills slowly, such as the texts of tokens that have been seen."""
    return Resources(
        memory=(8 << 20) + 100 * generations,
        threads=0,
        descriptors=0,
        objects=50,
        blocks=500 + generations // 10,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generations", type=int, default=10_000)
    parser.add_argument("--warm-up", type=int, default=1000)
    parser.add_argument("--cache-bytes", type=int, help="prefix_cache_bytes of the model")
    parser.add_argument("--only", nargs="+", metavar="KIND")
    arguments = parser.parse_args()
    write = sys.stdout.write
    with (
        tempfile.TemporaryDirectory() as folder,
        BitNetModel(n_threads=2, prefix_cache_bytes=arguments.cache_bytes) as model,
    ):
        mixture = Mixture(model, Path(folder))
        if arguments.only:
            mixture.kinds = [getattr(mixture, name) for name in arguments.only]
        write(f"kinds: {' '.join(kind.__name__ for kind in mixture.kinds)}\n")
        number, done = mixture.run(arguments.warm_up)
        before = Resources.now()
        write(f"after {done} generations: {before}\n")
        began, done, more = time.monotonic(), 0, before.since(before)
        while done < arguments.generations:
            number, count = mixture.run(min(1000, arguments.generations - done), number)
            done += count
            more = Resources.now().since(before)
            write(f"{done} more, {time.monotonic() - began:.0f} s: {more}\n")
            sys.stdout.flush()
    bound = allowed(done)
    over = [name for name in Resources._fields if getattr(more, name) > getattr(bound, name)]
    write(f"allowed: {bound}\n{'too much: ' + ' '.join(over) if over else 'nothing has leaked'}\n")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
