"""The cache of a repository on disk, in the layout of huggingface_hub:

    models--org--name/blobs/CHECKSUM              the content of a file
    models--org--name/snapshots/COMMIT/NAME       a symbolic link to it, or itself
    models--org--name/refs/REVISION               the commit that a branch or tag was last
    models--org--name/.no_exist/COMMIT/NAME       the commit has no such file
    .locks/models--org--name/CHECKSUM.lock        held by the process that downloads it

https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from .listing import RemoteFile
from .repository import Repository

__all__ = ["RepositoryCache"]

_COMMIT = re.compile(r"[0-9a-f]{40}")


class RepositoryCache:
    """The part of a cache that belongs to one repository.

    Parameters
    ----------
    cache : Path
        The folder for all repositories.
    repository : Repository
    """

    def __init__(self, cache: Path, repository: Repository) -> None:
        folder = "models--" + repository.name.replace("/", "--")
        self.root = cache / folder
        self._locks = cache / ".locks" / folder

    def commit(self, revision: str) -> str | None:
        """The commit that a revision is, or was when something of it was last downloaded."""
        if _COMMIT.fullmatch(revision):
            return revision
        with contextlib.suppress(OSError, ValueError):
            commit = (self.root / "refs" / revision).read_text("ascii").strip()
            if _COMMIT.fullmatch(commit):
                return commit
        return None

    def remember(self, revision: str, commit: str) -> None:
        """Keep which commit a revision is."""
        if revision == commit or self.commit(revision) == commit:
            return
        ref = self.root / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        new = ref.with_name(f"{ref.name}.{os.getpid()}.tmp")
        new.write_text(commit, "ascii")
        os.replace(new, ref)

    def snapshot(self, commit: str) -> Path:
        """The folder in which the files of a commit have their names."""
        return self.root / "snapshots" / commit

    def names(self, commit: str) -> set[str]:
        """The files of a commit that are there."""
        folder = self.snapshot(commit)
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    def has(self, commit: str, file: RemoteFile) -> bool:
        """Whether a file is there, in full."""
        return _size(self.snapshot(commit) / file.name) == file.size

    def is_known_absent(self, commit: str, name: str) -> bool:
        """Whether the commit has no such file, as somebody has found out before."""
        return (self.root / ".no_exist" / commit / name).is_file()

    def remember_absent(self, commit: str, name: str) -> None:
        """Keep that the commit has no such file, so that nobody has to ask the hub again."""
        marker = self.root / ".no_exist" / commit / name
        if not marker.is_file():
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()

    def lock_path(self, file: RemoteFile) -> Path:
        """The lock file of a content."""
        return self._locks / f"{file.checksum}.lock"

    def blob(self, file: RemoteFile) -> Path:
        """Where a content is kept."""
        return self.root / "blobs" / file.checksum

    def part(self, file: RemoteFile) -> Path:
        """Where the beginning of a content is kept until all of it is there."""
        return self.root / "blobs" / f"{file.checksum}.incomplete"

    def has_blob(self, file: RemoteFile) -> bool:
        """Whether a content is there, in full."""
        return _size(self.blob(file)) == file.size

    def link(self, commit: str, file: RemoteFile, *, is_new: bool) -> None:
        """Give a content its name in a commit. Where symbolic links cannot be made, it is moved
        there if it is new; if it is not, other names may need it, and it is copied."""
        blob, name = self.blob(file), self.snapshot(commit) / file.name
        name.parent.mkdir(parents=True, exist_ok=True)
        made = name.with_name(f"{name.name}.{os.getpid()}.tmp")
        made.unlink(missing_ok=True)
        try:
            os.symlink(os.path.relpath(blob, name.parent), made)
        except (OSError, NotImplementedError):
            if is_new:
                made = blob
            else:
                shutil.copyfile(blob, made)
        os.replace(made, name)


def _size(path: Path) -> int | None:
    """Of a file; of the file that a link leads to. None if there is none."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
