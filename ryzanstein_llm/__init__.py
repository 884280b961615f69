"""Ternary (BitNet b1.58) language models on ordinary CPUs.

    import ryzanstein_llm
    model = ryzanstein_llm.BitNetModel()            # the built-in demo model
    print(model.generate("Once upon a time", max_tokens=50))

Names are imported when they are first used: importing the package is quick, and
choosing kernels (which `RYZANSTEIN_ISA` may make fail) waits until one is needed.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import errors
    from .asynchronous.chat_stream import AsyncChatStream
    from .asynchronous.stream import AsyncTextIterator
    from .chat import ChatDelta, ChatResult, ChatSession, ChatStream
    from .conversion import convert
    from .embedder import Embedder
    from .engine.kv_cache import KVCache
    from .memory import MemoryEstimate, estimate_memory
    from .model import BitNetModel, Model, load
    from .perplexity import PerplexityResult
    from .results import GenerationResult, TokenLogprob
    from .sampling import SamplingParams
    from .scoring import Choice, Score
    from .session import Session
    from .system.machine import cpu_info, has_avx2, num_threads
    from .system.memory import MemoryLimit, memory_limit
    from .text_iterator import TextIterator

__all__ = [
    "AsyncChatStream",
    "AsyncTextIterator",
    "BitNetModel",
    "ChatDelta",
    "ChatResult",
    "ChatSession",
    "ChatStream",
    "Choice",
    "Embedder",
    "GenerationResult",
    "KVCache",
    "MemoryEstimate",
    "MemoryLimit",
    "Model",
    "PerplexityResult",
    "SamplingParams",
    "Score",
    "Session",
    "TextIterator",
    "TokenLogprob",
    "__version__",
    "convert",
    "cpu_info",
    "errors",
    "estimate_memory",
    "has_avx2",
    "load",
    "memory_limit",
    "num_threads",
]

_HOMES = {
    "AsyncChatStream": ".asynchronous.chat_stream",
    "AsyncTextIterator": ".asynchronous.stream",
    "BitNetModel": ".model",
    "ChatDelta": ".chat",
    "ChatResult": ".chat",
    "ChatSession": ".chat",
    "ChatStream": ".chat",
    "Choice": ".scoring",
    "Embedder": ".embedder",
    "GenerationResult": ".results",
    "KVCache": ".engine.kv_cache",
    "MemoryEstimate": ".memory",
    "MemoryLimit": ".system.memory",
    "Model": ".model",
    "PerplexityResult": ".perplexity",
    "SamplingParams": ".sampling",
    "Score": ".scoring",
    "Session": ".session",
    "TextIterator": ".text_iterator",
    "TokenLogprob": ".results",
    "convert": ".conversion",
    "cpu_info": ".system.machine",
    "estimate_memory": ".memory",
    "has_avx2": ".system.machine",
    "load": ".model",
    "memory_limit": ".system.memory",
    "num_threads": ".system.machine",
}

# Python prints warnings of loggers nobody configured; a library stays silent.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module(".errors", __name__)
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    module = importlib.import_module(home, __name__)
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
