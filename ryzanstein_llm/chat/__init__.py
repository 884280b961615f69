"""Conversations: messages in, answers out."""

from .result import ChatDelta, ChatResult
from .session import ChatSession
from .source import ChatSource
from .stream import ChatStream

__all__ = ["ChatDelta", "ChatResult", "ChatSession", "ChatSource", "ChatStream"]
