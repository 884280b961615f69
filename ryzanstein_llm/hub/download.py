"""From the name of a repository to files on disk."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from ..errors import (
    FormatError,
    HubConnectionError,
    HubError,
    HubNotFoundError,
    HubRateLimitError,
    HubSpaceError,
)
from ..formats.json_file import read_json_object
from .cache import RepositoryCache
from .choice import SETTINGS, Choice, choose
from .listing import Listing, RemoteFile, list_repository
from .repository import Repository, is_safe_path
from .settings import Settings, file_lock
from .transfer import transfer

__all__ = ["download"]

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]


def download(
    repository: Repository, *, offline: bool = False, progress: Progress | None = None
) -> Path:
    """Make sure that the files of a model are in the cache.

    Files that are there are not downloaded again, whoever has downloaded them. The hub is asked
    once which commit a branch is now; for a commit whose files are all there it is not asked. If
    it cannot be reached and the model is there as of the last time, that one counts, and a warning
    is logged.

    Parameters
    ----------
    repository : Repository
    offline : bool
        Whether to do without the network. `HF_HUB_OFFLINE` says so too.
    progress : callable (done, total, what), optional
        Bytes that are there, bytes of all files, and the name of the file.

    Returns
    -------
    Path
        What `BitNetModel` opens: a folder with safetensors, or a file.

    Raises
    ------
    HubError
        Of the class that says what is wrong; `HubError` itself if the cache cannot be written or
        the hub gives answers that are not understood.
    FormatError
        The index of the weights is malformed.
    MissingExtraError
        huggingface_hub is not installed.
    """
    settings = Settings.of_user(offline)
    cache = RepositoryCache(settings.cache, repository)
    if settings.offline or _is_all_there(cache, repository):
        return _cached(cache, repository)
    try:
        listing = list_repository(settings, repository)
    except (HubConnectionError, HubRateLimitError) as error:
        try:
            found = _cached(cache, repository)
        except HubError:
            raise error from None
        log.warning("%s; going on with what was downloaded earlier: %s", error, found)
        return found
    try:
        return _Download(settings, cache, repository, listing, progress).run()
    except OSError as error:
        if isinstance(error, HubError):
            raise
        raise HubError(f"{error.filename or cache.root}: {error.strerror or error}") from error


class _Download:
    def __init__(
        self,
        settings: Settings,
        cache: RepositoryCache,
        repository: Repository,
        listing: Listing,
        progress: Progress | None,
    ) -> None:
        self._settings, self._cache, self._repository = settings, cache, repository
        self._listing, self._progress = listing, progress
        self._done = self._total = 0

    def run(self) -> Path:
        commit, files = self._listing.commit, self._listing.files
        choice = choose(self._repository, files)
        names = list(choice.files)
        if choice.index is not None:
            self._fetch([choice.index])
            names += _shards(self._cache.snapshot(commit) / choice.index, files)
        self._fetch(names)
        with contextlib.suppress(OSError):  # a cache that others keep may be read-only
            for name in () if choice.opened.endswith(".gguf") else SETTINGS:
                if name not in files:
                    self._cache.remember_absent(commit, name)
            self._cache.remember(self._repository.revision, commit)
        return self._cache.snapshot(commit) / choice.opened

    def _fetch(self, names: Collection[str]) -> None:
        commit = self._listing.commit
        files = [self._listing.files[name] for name in names]
        missing = [file for file in files if not self._cache.has(commit, file)]
        self._total = sum(file.size for file in files)
        self._done = self._total - sum(file.size for file in missing)
        _check_space(self._cache, missing)
        for file in missing:
            self._fetch_one(file)
            self._done += file.size

    def _fetch_one(self, file: RemoteFile) -> None:
        cache, commit = self._cache, self._listing.commit
        part = cache.part(file)
        part.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(cache.lock_path(file)):
            if cache.has(commit, file):  # another process was quicker
                return
            is_new = not cache.has_blob(file)
            if is_new:
                name = quote(file.name)
                url = f"{self._settings.endpoint}/{self._repository.name}/resolve/{commit}/{name}"
                subject = f"{self._repository}: {file.name}"
                transfer(
                    self._settings, url, file, part, lambda done: self._say(done, file), subject
                )
                try:
                    part.replace(cache.blob(file))
                except FileNotFoundError:
                    # Locks do not work everywhere. Another process wrote the same bytes to the
                    # same file, and has finished.
                    if not cache.has_blob(file):
                        raise
            cache.link(commit, file, is_new=is_new)

    def _say(self, done: int, file: RemoteFile) -> None:
        if self._progress is not None:
            self._progress(self._done + done, self._total, f"downloading {file.name}")


def _is_all_there(cache: RepositoryCache, repository: Repository) -> bool:
    """Whether the hub has nothing to say: the revision is a commit, and of each file it is known
    whether the commit has it, and it is there."""
    if cache.commit(repository.revision) != repository.revision:
        return False
    try:
        choice = _choose_cached(cache, repository, repository.revision)
    except (HubError, FormatError):
        return False
    if choice.opened.endswith(".gguf"):
        return repository.file is not None  # the commit may have other models
    return all(
        name in choice.files or cache.is_known_absent(repository.revision, name)
        for name in SETTINGS
    )


def _cached(cache: RepositoryCache, repository: Repository) -> Path:
    """The model as it is in the cache, without a look at the hub."""
    commit = cache.commit(repository.revision)
    if commit is None:
        raise _not_cached(cache, repository, "nothing of it is")
    choice = _choose_cached(cache, repository, commit)
    return cache.snapshot(commit) / choice.opened


def _choose_cached(cache: RepositoryCache, repository: Repository, commit: str) -> Choice:
    names = cache.names(commit)
    if not names:
        raise _not_cached(cache, repository, "nothing of it is")
    choice = choose(repository, names)
    if not choice.opened.endswith(".gguf") and "config.json" not in names:
        raise _not_cached(cache, repository, "config.json is not")
    if choice.index is not None:
        shards = _shards(cache.snapshot(commit) / choice.index, names)
        return replace(choice, files=(*choice.files, *shards))
    return choice


def _not_cached(cache: RepositoryCache, repository: Repository, what: str) -> HubNotFoundError:
    return HubNotFoundError(
        f"{repository}: {what} in the cache {cache.root.parent}, and the network is not used "
        "(HF_HUB_OFFLINE or offline=True)"
    )


def _shards(index: Path, names: Collection[str]) -> list[str]:
    """The files that an index lists, each of which must be one of `names`."""
    found = read_json_object(index, unique=True).get("weight_map")
    listed = list(found.values()) if isinstance(found, dict) else []
    if not listed or not all(isinstance(name, str) for name in listed):
        raise FormatError(f"{index}: weight_map is missing, empty or not a table of files")
    values = sorted(set(listed))
    for name in values:
        if not (name.endswith(".safetensors") and is_safe_path(name)):
            raise FormatError(f"{index}: {name!r} does not name a .safetensors file in this folder")
        if name not in names:
            raise HubNotFoundError(f"{index}: {name} is listed as a shard, but it is not there")
    return values


def _check_space(cache: RepositoryCache, missing: Collection[RemoteFile]) -> None:
    needed = 0
    for file in missing:
        if not cache.has_blob(file):
            part = cache.part(file)
            needed += max(0, file.size - (part.stat().st_size if part.is_file() else 0))
    place = cache.root
    while not place.is_dir() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise HubSpaceError(str(cache.root), needed, free)
