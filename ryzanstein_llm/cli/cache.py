"""`ryzanstein-llm cache`: show, check and delete packed weights on disk."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidParameterError
from .command import Command, option, verbose_option
from .console import write

if TYPE_CHECKING:
    from pathlib import Path

    from ..packed_cache.inventory import CachedFile

__all__ = ["command"]

ACTIONS = {"list": ("files",), "verify": ("files",), "clear": ("deleted", "kept")}
"""The actions, each with the lists in its JSON."""

HELP = """\
Show, check or delete packed weights on disk.

Large models are packed once. The packed weights are kept in a file, which later starts map into
memory. The directory is $RYZANSTEIN_CACHE (0 or off: no cache), else
$XDG_CACHE_HOME/ryzanstein_llm, else ~/.cache/ryzanstein_llm.

The action list shows the files; so does cache without an action. verify reads them and their
checkpoints, compares digests, and exits with 1 if one is damaged. clear shows what it would delete,
asks, and deletes it.

A file is current (the next start of the model maps it), stale (the checkpoint or the library has
changed, and the next start packs the weights again), orphaned (the checkpoint is no longer there),
damaged (bytes are missing or wrong, or others could have written them) or unfinished (a process is
writing it, or has ended before it was complete).

With one NAME or more, an action is limited to these files. A NAME is the path of a checkpoint or
the name of a file, as list shows it, or a pattern such as "*/2B-4T".
"""


@click.command(
    "cache",
    cls=Command,
    short_help="show, check or delete packed weights on disk",
    help=HELP,
)
@click.argument(
    "words",
    metavar="[list|verify|clear] [NAME]...",
    nargs=-1,
    shell_complete=lambda context, param, begin: [a for a in ACTIONS if a.startswith(begin)],
)
@option("-y", "--yes", is_flag=True, help="with clear: delete without asking")
@option("--json", "as_json", is_flag=True, help="one JSON object")
@verbose_option
@click.pass_context
def command(context: click.Context, words: tuple[str, ...], yes: bool, as_json: bool) -> int:
    action, *names = words or ("list",)
    if action not in ACTIONS:
        from ..errors.suggestion import did_you_mean

        hint = did_you_mean(action, ACTIONS) or f"the actions are {', '.join(ACTIONS)}"
        raise click.UsageError(f"no action {action!r}; {hint}", context)
    if yes and action != "clear":
        raise click.UsageError(f"--yes is for clear, not for {action}", context)
    if action == "clear" and not yes and (as_json or sys.stdin is None or not sys.stdin.isatty()):
        why = "with --json it cannot" if as_json else "standard input is not a terminal"
        raise InvalidParameterError(f"cache clear asks before it deletes, but {why}: give --yes")
    from ..packed_cache import cache_directory

    directory = cache_directory()
    if directory is None:
        if as_json:
            _write_json(None, **{group: [] for group in ACTIONS[action]})
        else:
            write("off (RYZANSTEIN_CACHE)\n")
        return 0
    if action == "clear":
        return _clear(directory, names, yes, as_json)
    return _list(directory, names, action == "verify", as_json)


def _list(directory: Path, names: Sequence[str], verify: bool, as_json: bool) -> int:
    from ..packed_cache.inventory import inventory

    _check_found(directory, names)
    if as_json:
        files = list(inventory(directory, names, verify=verify))
        _write_json(directory, files=files)
    else:
        files = _show(directory, names, verify)
    return 1 if verify and any(file.state == "damaged" for file in files) else 0


def _clear(directory: Path, names: Sequence[str], yes: bool, as_json: bool) -> int:
    from ..packed_cache.inventory import clear, inventory

    _check_found(directory, names)
    files = list(inventory(directory, names)) if as_json else _show(directory, names)
    if files and not (yes or _ask(len(files))):
        write("  nothing deleted\n")
        return 0
    deleted, kept = clear(directory, files)
    if as_json:
        _write_json(directory, deleted=deleted, kept=kept)
        return 0
    if kept:
        write(f"  {_sum(kept)} being written, so not deleted\n")
    if deleted:
        write(f"  {_sum(deleted)} deleted\n")
    return 0


def _show(directory: Path, names: Sequence[str], verify: bool = False) -> list[CachedFile]:
    """Print each file as soon as it has been checked. Returns all of them."""
    from ..packed_cache.inventory import inventory
    from ..text_table import fields, format_bytes

    write(f"{directory}\n")
    files = []
    for file in inventory(directory, names, verify=verify):
        files.append(file)
        write(f"  {format_bytes(file.nbytes):>8}  {file.state:<10}  {file.whose}\n")
        if file.why:
            write(fields({"": file.why}, 5))
    write(f"  {_sum(files)}\n")
    return files


def _sum(files: Sequence[CachedFile]) -> str:
    from ..text_table import format_bytes, plural

    return f"{plural(len(files), 'file')}, {format_bytes(sum(file.nbytes for file in files))}"


def _check_found(directory: Path, names: Sequence[str]) -> None:
    from ..packed_cache.inventory import inventory

    for name in names:
        if not any(inventory(directory, [name])):
            raise InvalidParameterError(f"{directory} holds no packed weights called {name!r}")


def _ask(count: int) -> bool:
    sys.stderr.write(f"delete {'it' if count == 1 else 'them'}? [y/N] ")
    sys.stderr.flush()
    try:
        answer = sys.stdin.buffer.readline()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise
    return answer.strip().lower() in (b"y", b"yes")


def _write_json(directory: Path | None, **groups: Sequence[CachedFile]) -> None:
    import json
    from dataclasses import asdict

    found: dict[str, Any] = {"directory": directory}
    for name, files in groups.items():
        found[name] = [asdict(file) for file in files]
    write(json.dumps(found, default=str) + "\n")
