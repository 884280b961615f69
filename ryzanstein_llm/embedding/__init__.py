"""Texts in, one vector for each of them out."""

from .similarity import cosine_similarity
from .source import EmbeddingSource

__all__ = ["EmbeddingSource", "cosine_similarity"]
