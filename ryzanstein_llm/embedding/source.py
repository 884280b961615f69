"""What makes a model one that embeds texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..engine.engine import Engine
from ..engine.pooling import pooled_states
from ..errors import FormatError
from ..formats import EmbeddingSettings
from ..text.vocabulary import Vocabulary
from ..validation import check_bool, check_callable, check_int
from .choices import choose_pooling, choose_prompt
from .similarity import unit_vectors
from .texts import read_texts

__all__ = ["BATCH_SIZE", "EmbeddingSource"]

BATCH_SIZE = 16
"""Texts in a pass at most. Each takes at least one block of keys and values."""


class EmbeddingSource:
    """`embed`. A subclass has the attributes."""

    engine: Engine
    vocabulary: Vocabulary
    path: Path
    embedding_settings: EmbeddingSettings

    def embed(
        self,
        texts: Iterable[str | Sequence[int]],
        *,
        prompt: str | None = None,
        batch_size: int = BATCH_SIZE,
        normalize: bool = True,
        truncate_dim: int | None = None,
        pooling: str | None = None,
        truncate: bool = False,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> NDArray[np.float32]:
        """One vector for each text: its hidden states after the final norm, pooled.

        A model for texts can embed, too. It was not trained for that, so expect less of it.

        Parameters
        ----------
        texts : iterable of str, or of token ids
            Special tokens are added to a text as the tokenizer says. Nothing is added to ids.
        prompt : str, optional
            Text to put in front of each text, or the name of one of the checkpoint's prompts
            (`embedding_settings.prompts`), such as "query". None: the checkpoint's default prompt,
            which most have not. "": nothing.
        batch_size : int >= 1
            The largest number of texts that are computed together. Results do not depend on it.
        normalize : bool
            Whether to divide each vector by its length, so that dot products are cosines.
        truncate_dim : int in 1..hidden_size, optional
            Keep only the first numbers of each vector, before it is normalised; for models that
            were trained for that (Matryoshka, arXiv 2205.13147).
        pooling : "mean", "cls" or "last", optional
            The mean over all tokens, or the first or last of them. None: what the checkpoint says
            (1_Pooling/config.json, else `pooling_type` of GGUF), else "mean".
        truncate : bool
            Whether to cut off the end of a text that is longer than the context. Otherwise it is an
            error.
        progress : callable (done, total, what), optional
            Called after each pass with the number of finished texts.

        Returns
        -------
        float32 array of shape (len(texts), hidden_size or truncate_dim), in the order of the texts

        Raises
        ------
        InvalidParameterError, ContextOverflowError
            If an argument or a text is wrong; the message names its index. Nothing was computed.
        UnsupportedModelError
            If the checkpoint computes its embeddings in a way that is not supported.
        CacheBudgetError, TokenizerMissingError, SessionBusyError, ClosedError
        FormatError
            If a result is not finite, because weights overflow.

        Notes
        -----
        A text has the same bits in any list, whatever is computed with it.
        """
        width = self.engine.graph.config.hidden_size
        at_once = check_int("batch_size", batch_size, 1, 1 << 31)
        scaled, cut = check_bool("normalize", normalize), check_bool("truncate", truncate)
        kept = width
        if truncate_dim is not None:
            kept = check_int("truncate_dim", truncate_dim, 1, width)
        check_callable("progress", progress)
        chosen = choose_pooling(self.embedding_settings, pooling, self.path)
        before = choose_prompt(self.embedding_settings, prompt, self.path)
        limit = self.engine.context_length
        ids = read_texts(self.vocabulary, texts, before, limit, truncate=cut)

        def report(done: int) -> None:
            if progress is not None:
                progress(done, len(ids), "embedding")

        vectors = pooled_states(self.engine, ids, chosen, at_once, report)
        if not np.isfinite(vectors).all():
            raise FormatError(f"{self.path}: hidden states are not finite: the weights overflow")
        vectors = np.ascontiguousarray(vectors[:, :kept])
        return unit_vectors(vectors) if scaled else vectors
