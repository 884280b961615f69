"""Opening a model of the hub: the part that `BitNetModel` inherits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ..validation import check_bool
from .hub_path import HubPath
from .repository import Repository

__all__ = ["HubSource"]


class HubSource:
    """A class whose first argument is the path of a model."""

    if TYPE_CHECKING:

        def __init__(self, path: Any = None, **options: Any) -> None: ...

    @classmethod
    def from_pretrained(
        cls, repository: str, *, revision: str | None = None, offline: bool = False, **options: Any
    ) -> Self:
        """Open a model of the Hugging Face Hub, after downloading what is not in the cache.
        Arguments are checked before, and an interrupted download goes on where it ended. Needs
        huggingface_hub: `pip install "ryzanstein_llm[hub]"`.

        Parameters
        ----------
        repository : str
            `org/name`, or `org/name:file.gguf` if the repository has several models.
        revision : str, optional
            A branch, a tag or the hash of a commit. Default: `main`.
        offline : bool, optional
            Use the cache alone. The environment variable `HF_HUB_OFFLINE` says so too.
        **options
            Those of `BitNetModel`. `progress` gets numbers of bytes while files are downloaded.

        Raises
        ------
        HubError
            Of the class that says what is wrong; see `ryzanstein_llm.errors`.
        MissingExtraError, and those of `BitNetModel`
        """
        path = HubPath(
            Repository.parse(repository, revision),
            offline=check_bool("offline", offline),
            progress=options.get("progress"),
        )
        return cls(path, **options)
