"""The command line `ryzanstein-llm`: parser, exit codes, nothing of the engine.

Each command is a module with `add_parser(subparsers)`, which sets `run` to a
function from the parsed arguments to an exit code. Commands import the engine when
they run, so that `--help` and mistyped arguments answer at once. Drawing is done by
hand (`progress.py`): one bar is not worth a dependency in the base install.

Exit codes: 0 done; 1 out of memory, or `bench` found outputs that differ, or `cache verify` a
damaged file; 2 bad input, one line on standard error; 130 interrupted by Ctrl-C; 141 the reader
of standard output went away.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ..errors import BenchError, RyzansteinError
from . import bench, cache, generate, info
from .console import abandon_stdout, console

__all__ = ["main"]

PROGRAM = "ryzanstein-llm"
COMMANDS = (generate, info, bench, cache)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` defaults to `sys.argv[1:]`."""
    arguments = _parser().parse_args(argv)
    with console(PROGRAM, arguments.verbose):
        try:
            code: int = arguments.run(arguments)
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            abandon_stdout()
            return 141
        except MemoryError as error:
            return _fail(f"not enough memory: {error}", 1)
        except BenchError as error:
            return _fail(str(error), 1)
        except (RyzansteinError, OSError) as error:
            return _fail(str(error), 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Run ternary (BitNet b1.58) language models on the CPU."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


class _Version(argparse.Action):
    """`action="version"` would need the version, so the engine, before anything is parsed."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import ryzanstein_llm

        sys.stdout.write(f"{PROGRAM} {ryzanstein_llm.__version__}\n")
        parser.exit(0)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"{PROGRAM}: error: {' '.join(message.split())}\n")
    return code
