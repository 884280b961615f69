"""Completions in the form of OpenAI's API, with the methods and arguments of llama-cpp-python."""

from .source import CompletionSource
from .stream import CompletionStream

__all__ = ["CompletionSource", "CompletionStream"]
