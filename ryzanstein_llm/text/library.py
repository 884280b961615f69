"""Errors of the `tokenizers` library, which raises plain Exception and worse, as errors of ours."""

from __future__ import annotations

from types import TracebackType

from ..errors import FormatError, RyzansteinError

__all__ = ["LibraryErrors", "lacks_threads"]


def lacks_threads(error: BaseException) -> bool:
    """Whether this is the panic of `encode_batch` where the system refuses the library's threads.
    `encode` needs none."""
    return "ThreadPoolBuildError" in str(error)


class LibraryErrors:
    """``with LibraryErrors(source):`` makes whatever the library raises a FormatError that names
    `source`, the file of the tokenizer. May be entered any number of times.

    A panic of its Rust code is not even an Exception, and known by its name alone. Running out of
    memory, Ctrl-C and the like stay what they are.
    """

    def __init__(self, source: str) -> None:
        self._source = source

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, RyzansteinError | MemoryError):
            return
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise FormatError(f"{self._source}: the tokenizer cannot be used: {error}") from error
