"""`python -m ryzanstein_llm.testing make-checkpoint --preset NAME DIRECTORY`"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..errors import RyzansteinError
from . import PRESETS, make_checkpoint
from .shapes import FORMS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    options = _parser().parse_args(arguments)
    interactive = sys.stderr.isatty()
    try:
        path = make_checkpoint(
            options.directory,
            options.preset,
            seed=options.seed,
            form=options.form,
            linear_class=None if options.linear_class == "none" else options.linear_class,
            dtype=options.dtype,
            shards=options.shards,
            tokenizer=not options.no_tokenizer,
            sparse_gates=options.sparse_gates,
            ternary_embedding=options.ternary_embedding,
            peaked=options.peaked,
            progress=_draw if interactive else None,
        )
    except (RyzansteinError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    finally:
        if interactive:
            sys.stderr.write("\r\x1b[K")
    sys.stdout.write(f"{path}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ryzanstein_llm.testing")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser(
        "make-checkpoint",
        help="write a checkpoint with seeded random weights",
        description="Write a checkpoint with seeded random weights to DIRECTORY.",
        epilog="\n  ".join(["presets:", *PRESETS]),
        formatter_class=argparse.RawDescriptionHelpFormatter,  # a name a line in the epilog
    )
    make.add_argument("directory", metavar="DIRECTORY")
    make.add_argument("--preset", choices=PRESETS, required=True, metavar="NAME",
                      help="the model whose names and shapes it gets; see below")  # fmt: skip
    make.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of the weights (default: 0)"
    )
    make.add_argument(
        "--form",
        choices=FORMS,
        default="packed",
        metavar="FORM",
        help="how projections are stored: packed (default; four weights in a byte, and a scale), "
        "master (floats, which are made ternary when the model is opened), groups64 or groups128 "
        "(ternary floats with a scale for each 64 or 128 columns)",
    )
    make.add_argument(
        "--ternary-embedding",
        action="store_true",
        help="embedding and head are ternary too; needs groups64 or groups128",
    )
    make.add_argument(
        "--linear-class",
        choices=["autobitlinear", "bitlinear", "none"],
        default="autobitlinear",
        metavar="CLASS",
        help="as config.json has it. Stored scales multiply with autobitlinear (default), and "
        "divide with bitlinear, or with none, which leaves it out of config.json",
    )
    make.add_argument(
        "--dtype",
        choices=["BF16", "F16", "F32"],
        default="BF16",
        metavar="DTYPE",
        help="of all floats: BF16 (default), F16 or F32",
    )
    make.add_argument(
        "--shards", type=int, default=1, metavar="N", help="number of weight files (default: 1)"
    )
    make.add_argument(
        "--sparse-gates",
        type=float,
        metavar="SHARE",
        help="share of positive gates, between 0 and 1 (default: about 0.5)",
    )
    make.add_argument(
        "--peaked", action="store_true", help="logits as peaked as those of the demo model"
    )
    make.add_argument(
        "--no-tokenizer", action="store_true", help="leave tokenizer.json out: the model takes ids"
    )
    return parser


def _draw(done: int, total: int) -> None:
    width = 30
    filled = width * done // total
    bar = "#" * filled + "." * (width - filled)
    sys.stderr.write(f"\r[{bar}] {done >> 20} / {total >> 20} MiB")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
