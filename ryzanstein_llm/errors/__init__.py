"""Every exception the library raises on purpose.

Each class also derives from the built-in a Python programmer would expect
(`ValueError`, `FileNotFoundError`, ...), so callers may catch either. Messages
name the file, tensor or parameter and the offending value.
"""

from __future__ import annotations

from typing import Any

from .base import RyzansteinError
from .hub import (
    HubAccessError,
    HubChecksumError,
    HubChoiceError,
    HubConnectionError,
    HubError,
    HubNotFoundError,
    HubRateLimitError,
    HubSpaceError,
)
from .request import ContextOverflowError, IncompleteOutputError, InvalidOutputError

__all__ = [
    "BenchError",
    "CacheBudgetError",
    "CancelledError",
    "ChatTemplateError",
    "CheckpointChangedError",
    "CheckpointNotFoundError",
    "ClosedError",
    "ContextOverflowError",
    "ConversionError",
    "DiskSpaceError",
    "EmptyPromptError",
    "FormatError",
    "HubAccessError",
    "HubChecksumError",
    "HubChoiceError",
    "HubConnectionError",
    "HubError",
    "HubNotFoundError",
    "HubRateLimitError",
    "HubSpaceError",
    "IncompleteOutputError",
    "InvalidOutputError",
    "InvalidParameterError",
    "KernelSelfTestError",
    "MemoryLimitError",
    "MissingExtraError",
    "NotebookError",
    "ResourceLimitError",
    "RyzansteinError",
    "SavedSessionError",
    "SessionBusyError",
    "SessionNotFoundError",
    "TaskFileError",
    "TokenizerMissingError",
    "UnfinishedStreamError",
    "UnsupportedFeatureError",
    "UnsupportedIsaError",
    "UnsupportedModelError",
    "WriteError",
]


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


class ConversionError(RyzansteinError, ValueError):
    """The model cannot be written in the format that was asked for without changing it."""


class WriteError(RyzansteinError, OSError):
    """A file cannot be written. What was there before stays as it was.

    Attributes
    ----------
    path : str
        The file or folder, as the caller named it.
    problem : str
        The message without `path`.
    errno : int or None
        The number of the operating system's error, if there was one.
    """

    def __init__(self, path: str, problem: str = "cannot be written", errno: int | None = None):
        super().__init__(f"{path}: {problem}")
        self.path, self.problem, self.errno = path, problem, errno

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.problem, self.errno), {"args": self.args}


class DiskSpaceError(WriteError):
    """There is not enough room on the disk for a file that is to be written."""


class UnsupportedIsaError(RyzansteinError, RuntimeError):
    """`RYZANSTEIN_ISA` names an instruction-set tier that this build or CPU lacks, or that the
    operating system does not permit."""


class KernelSelfTestError(RyzansteinError, RuntimeError):
    """A kernel gives other bits on this machine than portable C does, so texts would be wrong. It
    is found when a model opens.

    Attributes
    ----------
    tier, kernel : str
        The instruction-set tier, and the member of `rz_kernels` (include/ryzanstein/kernels.h).
    others : tuple of str
        Other tiers that this CPU can run, best first.
    """

    def __init__(
        self, tier: str, kernel: str, what: str = "", columns: int = 0, others: tuple[str, ...] = ()
    ) -> None:
        of = f" ({what})" if what else ""
        wide = f" for {columns} columns" if columns else ""
        other = f"RYZANSTEIN_ISA={others[0]} uses other kernels; " if others else ""
        super().__init__(
            f"tier {tier}: the kernel {kernel}{of} gives other results{wide} than portable C, so "
            f"this CPU, its emulator or this build is at fault; {other}`ryzanstein-llm doctor` "
            "checks all tiers"
        )
        self.tier, self.kernel, self.what = tier, kernel, what
        self.columns, self.others = columns, others

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.tier, self.kernel, self.what, self.columns, self.others)
        return type(self), arguments, {"args": self.args}


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

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.needed, self.budget), {"args": self.args}


class MemoryLimitError(RyzansteinError, MemoryError):
    """A model cannot be loaded in the memory that this process can have; refused before any of its
    weights is packed.

    Attributes
    ----------
    needed, limit : int
        Bytes that loading it takes at least, without pages of files, which the system can reclaim;
        and bytes that there can be, swap included.
    source : str
        What sets the limit, as in `memory_limit()`.
    """

    def __init__(self, problem: str, needed: int, limit: int, source: str) -> None:
        super().__init__(problem)
        self.problem, self.needed, self.limit, self.source = problem, needed, limit, source

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.problem, self.needed, self.limit, self.source)
        return type(self), arguments, {"args": self.args}


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


class SavedSessionError(RyzansteinError, ValueError):
    """A saved session was made with another model, or with options that change keys and values."""


class SessionNotFoundError(RyzansteinError, FileNotFoundError):
    """The file of a saved session or of a saved conversation does not exist or cannot be read."""


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


class TaskFileError(RyzansteinError, ValueError):
    """A task file of lm-eval, or its data, cannot be read or run, or would need the hub."""
