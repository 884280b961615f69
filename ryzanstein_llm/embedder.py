"""Embedder: a model that embeds texts, with the methods of sentence-transformers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .embedding import cosine_similarity
from .embedding.source import BATCH_SIZE
from .errors import InvalidParameterError
from .model import BitNetModel
from .validation import check_int

__all__ = ["Embedder"]

Float32 = NDArray[np.float32]

QUERY_PROMPTS = ("query",)
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Prompts of documents have one of these names, as in sentence-transformers."""


class Embedder:
    """Embeds texts. The methods have the names and shapes of sentence-transformers.

    Parameters
    ----------
    path : path
        As of `BitNetModel`.
    prompts : mapping of str to str, optional
        Prompts by name, which replace those of the checkpoint of the same name. Give
        `{"query": "..."}` if `encode_query` should put something in front of queries and the
        checkpoint, such as a GGUF file, has no prompts.
    truncate_dim : int, optional
        Numbers to keep of each vector. None: all.
    **options
        Those of `BitNetModel`.

    Attributes
    ----------
    model : BitNetModel
    prompts : dict of str to str

    Raises
    ------
    InvalidParameterError
        If an argument is out of range.
    CheckpointNotFoundError, FormatError, UnsupportedModelError, UnsupportedIsaError
        As `BitNetModel`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        prompts: Mapping[str, str] | None = None,
        truncate_dim: int | None = None,
        **options: Any,
    ) -> None:
        own = _check_prompts(prompts)
        if truncate_dim is not None:  # how many numbers there are is known later
            check_int("truncate_dim", truncate_dim, 1, 1 << 18)
        self.model = BitNetModel(path, **options)
        self.prompts = {**self.model.embedding_settings.prompts, **own}
        self._truncate_dim = truncate_dim

    def encode(
        self,
        sentences: str | Iterable[str],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = BATCH_SIZE,
        *,
        normalize_embeddings: bool = True,
        truncate_dim: int | None = None,
        truncate: bool = False,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Float32:
        """The vectors of texts, float32 (n, d), or of one text, (d,).

        Parameters
        ----------
        sentences : str or iterable of str
        prompt_name : str, optional
            The name of a prompt in `prompts`.
        prompt : str, optional
            Text to put in front of each text, instead of a named prompt. Neither: the checkpoint's
            default prompt, if it has one.
        batch_size, truncate_dim, truncate, progress
            As in `BitNetModel.embed`.
        normalize_embeddings : bool
            Whether vectors have the length 1; `normalize` of `BitNetModel.embed`.

        Raises
        ------
        InvalidParameterError
            If there is no prompt of that name, and otherwise what `BitNetModel.embed` raises.
        """
        if prompt is None:
            name = prompt_name
            if name is None:
                name = self.model.embedding_settings.default_prompt
            elif not isinstance(name, str) or name not in self.prompts:
                known = ", ".join(map(repr, self.prompts)) or "there are none"
                problem = f"must be the name of a prompt ({known}), not {name!r}"
                raise InvalidParameterError(problem, "prompt_name")
            prompt = "" if name is None else self.prompts[name]
        vectors = self.model.embed(
            [sentences] if isinstance(sentences, str) else sentences,
            prompt=prompt,
            batch_size=batch_size,
            normalize=normalize_embeddings,
            truncate_dim=self._truncate_dim if truncate_dim is None else truncate_dim,
            truncate=truncate,
            progress=progress,
        )
        return vectors[0] if isinstance(sentences, str) else vectors

    def encode_query(self, sentences: str | Iterable[str], **options: Any) -> Float32:
        """`encode` with the prompt called "query", if there is one."""
        return self.encode(sentences, **self._with_prompt(QUERY_PROMPTS, options))

    def encode_document(self, sentences: str | Iterable[str], **options: Any) -> Float32:
        """`encode` with the prompt called "document", "passage" or "corpus", if there is one."""
        return self.encode(sentences, **self._with_prompt(DOCUMENT_PROMPTS, options))

    @staticmethod
    def similarity(first: Any, second: Any) -> Float32:
        """The cosine of each vector of `first` (n, d) with each of `second` (m, d): float32 (n, m).
        See `cosine_similarity`."""
        return cosine_similarity(first, second)

    def _with_prompt(self, names: Iterable[str], options: Mapping[str, Any]) -> dict[str, Any]:
        if options.get("prompt") is not None or options.get("prompt_name") is not None:
            return dict(options)
        found = next((self.prompts[name] for name in names if name in self.prompts), "")
        return {**options, "prompt": found}

    def close(self) -> None:
        """Free the weights. Closing twice is fine."""
        self.model.close()

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Embedder({str(self.model.path)!r})"


def _check_prompts(prompts: Any) -> dict[str, str]:
    if prompts is None:
        return {}
    if not isinstance(prompts, Mapping):
        problem = f"must be a mapping of names to texts, not {type(prompts).__name__}"
        raise InvalidParameterError(problem, "prompts")
    for name, text in prompts.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise InvalidParameterError(
                f"must be a text with a name, not {text!r}", f"prompts[{name!r}]"
            )
    return dict(prompts)
