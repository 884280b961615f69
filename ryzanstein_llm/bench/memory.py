"""Memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["memory_in_use", "peak_memory"]

FIELDS = ("Rss", "Pss", "Anonymous", "Private_Clean", "Private_Dirty", "Shared_Clean")


def memory_in_use(rollup: Path = Path("/proc/self/smaps_rollup")) -> dict[str, int] | None:
    """Bytes resident now, by kind; None if the system does not say.

    Returns
    -------
    dict
        `rss`, `pss`, `anonymous`, `private_clean`, `private_dirty` and `shared_clean` as the
        operating system counts them; `private` (equal to `anonymous`), which no other process can
        share; and `mapped` (the rest of `rss`), pages of files, which processes share.
    """
    found = _fields(rollup)
    if found is None or not {*FIELDS} <= found.keys():
        return None
    result = {name.lower(): found[name] for name in FIELDS}
    result["private"] = result["anonymous"]
    result["mapped"] = result["rss"] - result["anonymous"]
    return result


def peak_memory(status: Path = Path("/proc/self/status")) -> int | None:
    """The most bytes that were resident at once; None if the system does not say."""
    return (_fields(status) or {}).get("VmHWM")


def _fields(path: Path) -> dict[str, int] | None:
    """The lines `Name:  123 kB` of a file in /proc, in bytes."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return None
    return {
        words[0][:-1]: int(words[1]) * 1024
        for words in lines
        if len(words) == 3 and words[2] == "kB" and words[1].isdigit()
    }
