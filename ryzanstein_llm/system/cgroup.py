"""The CPU time and memory that this process's Linux control groups allow (containers, systemd
slices)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

__all__ = ["GroupMemory", "cpu_quota", "memory_limits"]


def cpu_quota(root: str | os.PathLike[str] = "/") -> float | None:
    """How many CPUs' worth of time the control groups allow; None if there is no limit.

    Every group from the process's own up to the top may set a quota; the smallest
    counts. Versions 1 and 2 are read, also if both are mounted. On other systems than
    Linux, or if a file cannot be read or understood, there is no limit.

    Parameters
    ----------
    root : path
        Where `/proc` and `/sys` are found.
    """
    readers = {2: _quota_v2, 1: _quota_v1}
    quotas = [
        quota
        for mount in _mounts("cpu", root)
        for directory in _groups(mount, root)
        if (quota := readers[mount.version](directory)) is not None
    ]
    return min(quotas, default=None)


@dataclass(frozen=True)
class GroupMemory:
    """The memory that one control group allows.

    Attributes
    ----------
    file : Path
        What the limit was read from.
    nbytes : int
    swap : int or None
        Bytes of swap that it allows on top; None if it does not say.
    """

    file: Path
    nbytes: int
    swap: int | None


def memory_limits(root: str | os.PathLike[str] = "/") -> list[GroupMemory]:
    """The limits of all control groups from the process's own up to the top, found in the same way
    as by `cpu_quota`. A limit of version 1 that is larger than any machine is none."""
    readers = {2: _memory_v2, 1: _memory_v1}
    return [
        limit
        for mount in _mounts("memory", root)
        for directory in _groups(mount, root)
        if (limit := readers[mount.version](directory)) is not None
    ]


@dataclass(frozen=True)
class _Mount:
    """One mounted hierarchy with the controller."""

    point: str
    """Where it is mounted."""
    top: str
    """The group that is visible there, `/` unless this is a container's view."""
    group: str
    """The process's group in this hierarchy."""
    version: int


def _mounts(controller: str, root: str | os.PathLike[str]) -> Iterator[_Mount]:
    groups = _own_groups(root)
    for line in _read(Path(root, "proc/self/mountinfo")).splitlines():
        # 31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw
        left, _, right = line.partition(" - ")
        fields, source = left.split(), right.split()
        if len(fields) < 5 or len(source) < 3:
            continue
        top, point = _unescape(fields[3]), _unescape(fields[4])
        if source[0] == "cgroup2" and "" in groups:
            yield _Mount(point, top, groups[""], 2)
        elif source[0] != "cgroup" or controller not in source[2].split(","):
            continue
        elif controller in groups:
            yield _Mount(point, top, groups[controller], 1)


def _own_groups(root: str | os.PathLike[str]) -> dict[str, str]:
    """Controller to group path; the unified hierarchy of version 2 has no name."""
    groups = {}
    for line in _read(Path(root, "proc/self/cgroup")).splitlines():
        number, _, rest = line.partition(":")  # 4:cpu,cpuacct:/docker/1f3a   0::/user.slice
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            if controller or number == "0":
                groups[controller] = path
    return groups


def _groups(mount: _Mount, root: str | os.PathLike[str]) -> Iterator[Path]:
    """Directories of the process's group and its parents, as far up as they are mounted."""
    group = PurePosixPath(mount.group)
    # In a container /proc may name the group as the host sees it, while only the
    # container's own part is mounted. Then the path below `top` counts. For a group
    # outside this part (`/..`), only the mount point itself is read.
    inside = group.is_relative_to(mount.top) and ".." not in group.parts
    below = group.relative_to(mount.top) if inside else PurePosixPath()
    base = Path(root, mount.point.lstrip("/"))
    yield base / below
    for parent in below.parents:
        yield base / parent


def _quota_v2(directory: Path) -> float | None:
    return _ratio(_read(directory / "cpu.max").split())  # "150000 100000" or "max 100000"


def _quota_v1(directory: Path) -> float | None:
    quota = _read(directory / "cpu.cfs_quota_us")  # -1: no limit
    return _ratio([quota, _read(directory / "cpu.cfs_period_us")])


def _memory_v2(directory: Path) -> GroupMemory | None:
    limit = _bytes(directory / "memory.max")  # "max": no limit
    if limit is None:
        return None
    return GroupMemory(directory / "memory.max", limit, _bytes(directory / "memory.swap.max"))


def _memory_v1(directory: Path) -> GroupMemory | None:
    limit = _bytes(directory / "memory.limit_in_bytes")
    if limit is None or limit >= NO_LIMIT:
        return None
    both = _bytes(directory / "memory.memsw.limit_in_bytes")  # of memory and swap together
    swap = None if both is None or both >= NO_LIMIT else max(0, both - limit)
    return GroupMemory(directory / "memory.limit_in_bytes", limit, swap)


NO_LIMIT = 1 << 60
"""Version 1 writes the largest number of pages instead of "max"."""


def _bytes(path: Path) -> int | None:
    try:
        return int(_read(path))
    except ValueError:
        return None


def _ratio(fields: list[str]) -> float | None:
    try:
        quota, period = int(fields[0]), int(fields[1])
    except (IndexError, ValueError):
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _unescape(field: str) -> str:
    """mountinfo writes a space as `\\040`, and so on."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
