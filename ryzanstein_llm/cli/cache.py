"""`ryzanstein-llm cache`: packed weights on disk, to see, to check, to delete."""

from __future__ import annotations

import argparse

from .console import write
from .info import format_bytes

__all__ = ["add_parser", "run"]

DESCRIPTION = """\
Large models are packed once, and the packed weights kept in a file that later
starts map into memory. The directory is $RYZANSTEIN_CACHE (0 or off: no cache),
else $XDG_CACHE_HOME/ryzanstein_llm, else ~/.cache/ryzanstein_llm.

list shows the files; verify reads all of them and their checkpoints and compares
digests, exit code 1 if one is damaged; clear deletes them.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "cache",
        help="show, check or delete packed weights on disk",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=("list", "verify", "clear"),
        default="list",
        help="(default: %(default)s)",
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="show what is done")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from ..packed_cache import cache_directory
    from ..packed_cache.inventory import clear, inventory

    directory = cache_directory()
    if directory is None:
        write("off (RYZANSTEIN_CACHE)\n")
        return 0
    write(f"{directory}\n")
    if arguments.action == "clear":
        count, freed = clear(directory)
        write(f"  {_files(count)} deleted, {format_bytes(freed)}\n")
        return 0
    count = total = 0
    damaged = False
    for found in inventory(directory, verify=arguments.action == "verify"):
        why = f" ({found.why})" if found.why else ""
        whose = found.checkpoint or found.path.name
        write(f"  {format_bytes(found.nbytes):>8}  {found.state:<8}  {whose}{why}\n")
        count, total = count + 1, total + found.nbytes
        damaged = damaged or found.state == "damaged"
    write(f"  {_files(count)}, {format_bytes(total)}\n")
    return 1 if damaged and arguments.action == "verify" else 0


def _files(count: int) -> str:
    return f"{count} file{'' if count == 1 else 's'}"
