"""Every exception the library raises on purpose.

Each class also derives from the built-in a Python programmer would expect
(`ValueError`, `FileNotFoundError`, ...), so callers may catch either. Messages
name the file, tensor or parameter and the offending value.
"""

from __future__ import annotations

from typing import Any, Self

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
    "InvalidParameterError",
    "MissingExtraError",
    "NotebookError",
    "ResourceLimitError",
    "RyzansteinError",
    "SavedSessionError",
    "SessionBusyError",
    "TaskFileError",
    "TokenizerMissingError",
    "UnfinishedStreamError",
    "UnsupportedFeatureError",
    "UnsupportedIsaError",
    "UnsupportedModelError",
]


class RyzansteinError(Exception):
    """Base of every exception in this module."""

    def about(self, what: str) -> Self:
        """The same error, with a message that begins with `what`, such as "prompt[3]"."""
        self.args = (f"{what}: {self}", *self.args[1:])
        return self


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


class DiskSpaceError(RyzansteinError, OSError):
    """There is not enough room on the disk for a file that is to be written."""


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


class IncompleteOutputError(RyzansteinError, ValueError):
    """A text ended before the form that was asked for was complete, so it cannot be read.

    Attributes
    ----------
    argument : str
        What asked for the form: "schema", "regex", "choices", "grammar" or "response_format".
    text : str
        The text so far.
    finish_reason : str
        Why it ended: "length", "stop" or "cancelled".
    """

    def __init__(self, argument: str, text: str, finish_reason: str) -> None:
        shown = text if len(text) <= 200 else f"{text[:100]}...{text[-100:]}"
        advice = "; raise max_tokens" if finish_reason == "length" else ""
        super().__init__(
            f"{argument}: the text is not complete, because it ended with finish_reason "
            f"{finish_reason!r}{advice}: {shown!r}"
        )
        self.argument, self.text, self.finish_reason = argument, text, finish_reason

    def __reduce__(self) -> tuple[type[IncompleteOutputError], tuple[str, str, str]]:
        return type(self), (self.argument, self.text, self.finish_reason)


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

    def __reduce__(self) -> tuple[Any, ...]:
        # the default would pass the message, and unpickling would fail
        return type(self), (self.needed, self.context_length), {"args": self.args}


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
