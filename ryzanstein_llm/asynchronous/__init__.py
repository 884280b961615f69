"""The interface for asyncio: threads compute, but only while a task of an event loop waits."""

from .source import AsyncSource

__all__ = ["AsyncSource"]
