"""What can go wrong with repositories of the Hugging Face Hub."""

from __future__ import annotations

from .base import RyzansteinError

__all__ = [
    "HubAccessError",
    "HubChecksumError",
    "HubChoiceError",
    "HubConnectionError",
    "HubError",
    "HubNotFoundError",
    "HubRateLimitError",
    "HubSpaceError",
]


class HubError(RyzansteinError, OSError):
    """Something went wrong with a repository of the Hugging Face Hub; base of what can. What was
    downloaded so far stays, and the next attempt goes on from there."""


class HubNotFoundError(HubError, FileNotFoundError):
    """The hub has no such repository, revision or file, or the cache does not have it and offline
    mode forbids asking. A private repository looks like a missing one without a token."""


class HubAccessError(HubError, PermissionError):
    """The repository is private or gated, and the token (if there is one) does not open it."""


class HubConnectionError(HubError, ConnectionError):
    """The hub cannot be reached, closed the connection again and again, or reports a fault of its
    own (HTTP status 500 and above)."""


class HubRateLimitError(HubError):
    """The hub refuses further requests for a time (HTTP status 429).

    Attributes
    ----------
    retry_after : int or None
        Seconds to wait, if the hub said so.
    """

    def __init__(self, problem: str, retry_after: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.retry_after = problem, retry_after

    def __reduce__(self) -> tuple[type[HubRateLimitError], tuple[str, int | None]]:
        return type(self), (self.problem, self.retry_after)


class HubChoiceError(HubError, ValueError):
    """A repository has several models, or none that can be read, and the name does not say which
    file is meant.

    Attributes
    ----------
    files : tuple of str
        The files to choose from.
    """

    def __init__(self, problem: str, files: tuple[str, ...] = ()) -> None:
        super().__init__(problem)
        self.problem, self.files = problem, files

    def __reduce__(self) -> tuple[type[HubChoiceError], tuple[str, tuple[str, ...]]]:
        return type(self), (self.problem, self.files)


class HubChecksumError(HubError, ValueError):
    """A whole download has another checksum than the hub gives for the file. It was deleted.

    Attributes
    ----------
    file, expected, found : str
        Which file of which repository, and the hexadecimal checksums.
    """

    def __init__(self, file: str, expected: str, found: str) -> None:
        super().__init__(
            f"{file}: checksum {found}, but the hub says {expected}; the download was deleted"
        )
        self.file, self.expected, self.found = file, expected, found

    def __reduce__(self) -> tuple[type[HubChecksumError], tuple[str, str, str]]:
        return type(self), (self.file, self.expected, self.found)


class HubSpaceError(HubError):
    """The disk does not have the space for the files of a repository.

    Attributes
    ----------
    directory : str
    needed, free : int
        Bytes still to be downloaded, and bytes free where they would go.
    """

    def __init__(self, directory: str, needed: int, free: int) -> None:
        super().__init__(
            f"{directory}: {needed:,} bytes are still to be downloaded, and {free:,} are free; "
            "HF_HUB_CACHE names another place"
        )
        self.directory, self.needed, self.free = directory, needed, free

    def __reduce__(self) -> tuple[type[HubSpaceError], tuple[str, int, int]]:
        return type(self), (self.directory, self.needed, self.free)
