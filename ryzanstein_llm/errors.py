"""Every exception the library raises on purpose.

Each class also derives from the built-in a Python programmer would expect
(`ValueError`, `FileNotFoundError`, ...), so callers may catch either. Messages
name the file, tensor or parameter and the offending value.
"""

from __future__ import annotations

__all__ = [
    "BenchError",
    "CacheBudgetError",
    "CancelledError",
    "ChatTemplateError",
    "CheckpointChangedError",
    "CheckpointNotFoundError",
    "ClosedError",
    "ContextOverflowError",
    "EmptyPromptError",
    "FormatError",
    "InvalidParameterError",
    "MissingExtraError",
    "NotebookError",
    "ResourceLimitError",
    "RyzansteinError",
    "SessionBusyError",
    "TokenizerMissingError",
    "UnfinishedStreamError",
    "UnsupportedFeatureError",
    "UnsupportedIsaError",
    "UnsupportedModelError",
]


class RyzansteinError(Exception):
    """Base of every exception in this module."""


class CheckpointNotFoundError(RyzansteinError, FileNotFoundError):
    """A file the checkpoint needs does not exist."""


class CheckpointChangedError(RyzansteinError, RuntimeError):
    """A file that an open model still reads was cut or extended in place."""


class ResourceLimitError(RyzansteinError, OSError):
    """The system has no more memory, file descriptors or threads for this process. The file that it
    was needed for may be all right."""


class FormatError(RyzansteinError, ValueError):
    """The bytes of a file, or a tensor in it, are not what the format or the config says."""


class UnsupportedModelError(RyzansteinError, ValueError):
    """The checkpoint is well formed, but of a kind this version cannot run correctly."""


class UnsupportedIsaError(RyzansteinError, RuntimeError):
    """`RYZANSTEIN_ISA` names an instruction-set tier that this build or CPU lacks."""


class InvalidParameterError(RyzansteinError, ValueError):
    """An argument is outside its documented range.

    Attributes
    ----------
    problem : str
        The message, without the argument's name if it begins with that name.
    parameter : str or None
        That name; None if the message begins otherwise. A program whose users know the argument
        by another name, such as the command line, can put theirs in its place.
    """

    def __init__(self, problem: str, parameter: str | None = None) -> None:
        super().__init__(problem if parameter is None else f"{parameter} {problem}")
        self.problem = problem
        self.parameter = parameter


class ContextOverflowError(RyzansteinError, ValueError):
    """More tokens than the context holds.

    Attributes
    ----------
    needed, context_length : int
        Tokens asked for, and tokens that the context has room for. If a text is so long that it was
        refused without counting, `needed` is the least number that it can have.
    """

    def __init__(self, needed: int, context_length: int) -> None:
        super().__init__(
            f"{needed} tokens do not fit a context of {context_length} tokens; shorten the "
            "prompt, or open the model with a longer context if the checkpoint has one"
        )
        self.needed = needed
        self.context_length = context_length

    def __reduce__(self) -> tuple[type[ContextOverflowError], tuple[int, int]]:
        # the default would pass the message, and unpickling would fail
        return type(self), (self.needed, self.context_length)


class CacheBudgetError(RyzansteinError, MemoryError):
    """Keys and values do not fit `prefix_cache_bytes`, and others that are in use cannot be given
    up.

    Attributes
    ----------
    needed, budget : int
        Bytes asked for, and bytes allowed for all caches of the model together.
    """

    def __init__(self, needed: int, budget: int) -> None:
        if needed > budget:
            room = f"prefix_cache_bytes={budget} allows no more than {budget:,}"
        else:
            room = f"too many of {budget:,} (prefix_cache_bytes) are in use; close caches"
        super().__init__(f"{needed:,} bytes of keys and values are needed, but {room}")
        self.needed, self.budget = needed, budget

    def __reduce__(self) -> tuple[type[CacheBudgetError], tuple[int, int]]:
        return type(self), (self.needed, self.budget)


class EmptyPromptError(RyzansteinError, ValueError):
    """An empty prompt for a model that has no BOS, padding or EOS token to start from."""


class TokenizerMissingError(RyzansteinError, LookupError):
    """Text was given or asked for, but the checkpoint has no `tokenizer.json`."""


class ChatTemplateError(RyzansteinError, ValueError):
    """There is no chat template, it is wrong, it does not accept the messages, or it takes too much
    time or memory.

    Attributes
    ----------
    reason : str or None
        What the template itself gave as its reason, with `raise_exception`.
    """

    def __init__(self, problem: str, reason: str | None = None) -> None:
        super().__init__(problem)
        self.reason = reason


class MissingExtraError(RyzansteinError, ImportError):
    """A package is not installed that the library needs for this only. The message has the command
    that installs it."""


class UnsupportedFeatureError(RyzansteinError, NotImplementedError):
    """The argument is right, but this version cannot do it yet."""


class SessionBusyError(RyzansteinError, RuntimeError):
    """A session is generating already: in another thread, or in a stream that has not ended."""


class CancelledError(RyzansteinError, RuntimeError):
    """`Session.cancel()` stopped a forward pass; the cache is as it was before the pass."""


class ClosedError(RyzansteinError, RuntimeError):
    """The model or session was closed."""


class UnfinishedStreamError(RyzansteinError, RuntimeError):
    """The result of a stream was asked for that has not ended, or that an error ended."""


class NotebookError(RyzansteinError, RuntimeError):
    """Something that only a notebook can show was asked for outside IPython."""


class BenchError(RyzansteinError, RuntimeError):
    """The outputs of a benchmark differ where they must be equal, so its times mean nothing."""
