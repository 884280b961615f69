"""What huggingface_hub knows about this user: where the hub and the cache are, and the token. The
only file that imports it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import InvalidParameterError, MissingExtraError

__all__ = ["Settings", "file_lock"]


@dataclass(frozen=True)
class Settings:
    """
    Attributes
    ----------
    endpoint : str
        The address of the hub, without a slash at its end (`HF_ENDPOINT`).
    cache : Path
        Where repositories are kept (`HF_HUB_CACHE`, `HF_HOME`).
    headers : dict[str, str]
        Sent to the hub with each request: user agent, and the token if there is one (`HF_TOKEN`, or
        what `hf auth login` has stored).
    offline : bool
        Whether the network must not be used (`HF_HUB_OFFLINE`).
    list_timeout, download_timeout : float
        Seconds that the hub may be silent (`HF_HUB_ETAG_TIMEOUT`, `HF_HUB_DOWNLOAD_TIMEOUT`).
    """

    endpoint: str
    cache: Path
    headers: dict[str, str]
    offline: bool
    list_timeout: float
    download_timeout: float

    @classmethod
    def of_user(cls, offline: bool = False) -> Settings:
        """Read them. As in huggingface_hub, environment variables count as they were when it was
        imported first.

        Raises
        ------
        MissingExtraError
            huggingface_hub is not installed.
        InvalidParameterError
            `HF_ENDPOINT` is not an address on the web.
        """
        try:
            from huggingface_hub import constants, get_token
        except ImportError as error:
            raise MissingExtraError(
                "repositories of the Hugging Face Hub need huggingface_hub: "
                'pip install "ryzanstein_llm[hub]"'
            ) from error
        endpoint = str(constants.ENDPOINT).rstrip("/")
        if not endpoint.startswith(("https://", "http://")):
            problem = f"must begin with https:// or http://, not {endpoint!r}"
            raise InvalidParameterError(problem, "HF_ENDPOINT")
        # not build_hf_headers, which may ask the hub for something of its own
        headers = {"User-Agent": f"ryzanstein_llm/{__version__}"}
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return cls(
            endpoint,
            Path(constants.HF_HUB_CACHE).expanduser().absolute(),
            headers,
            offline or bool(constants.HF_HUB_OFFLINE),
            float(constants.HF_HUB_ETAG_TIMEOUT),
            float(constants.HF_HUB_DOWNLOAD_TIMEOUT),
        )


def file_lock(path: Path) -> AbstractContextManager[Any]:
    """Waits until no other process holds the lock file `path`; huggingface_hub takes the same
    ones."""
    from huggingface_hub.utils import WeakFileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    lock: AbstractContextManager[Any] = WeakFileLock(path)
    return lock
