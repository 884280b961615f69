"""A path that is downloaded when somebody asks for it."""

from __future__ import annotations

import os
from collections.abc import Callable

from .repository import Repository

__all__ = ["HubPath"]


class HubPath(os.PathLike[str]):
    """The files of a model on the Hugging Face Hub, as the path that they have in the cache.

    `os.fspath` downloads them, the first time. So a model can check its other arguments first.

    Parameters
    ----------
    repository : Repository
    offline, progress
        As for `download`, and so are the errors of `os.fspath`.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        offline: bool = False,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> None:
        self.repository = repository
        self._offline, self._progress = offline, progress
        self._path: str | None = None

    def __fspath__(self) -> str:
        if self._path is None:
            from .download import download  # here, because most models are local files

            self._path = str(
                download(self.repository, offline=self._offline, progress=self._progress)
            )
        return self._path

    def __repr__(self) -> str:
        return f"HubPath({str(self.repository)!r})"
