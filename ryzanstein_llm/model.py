"""BitNetModel: text in, text out. All sessions of a model share its weights."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .asynchronous import AsyncSource
from .embedding import EmbeddingSource
from .engine.compute import new_cancel_flag
from .engine.engine import Engine
from .engine.kv_cache import KVCache
from .engine.store import Store
from .errors import InvalidParameterError
from .facts import ModelFacts, model_facts
from .generation import Generation
from .hub import HubSource
from .interfaces.kv_layout import KV_DTYPES
from .kernels import cpu
from .loading import load_checkpoint
from .models import WEIGHT_FORMATS, refuse_embedding_model
from .openai import CompletionSource
from .options import GenerationArguments, GenerationOptions
from .overflow import fitted
from .packed_cache import cache_directory
from .perplexity import PerplexityResult, perplexity
from .profiling import Profile
from .public_class import public_class
from .saved_session import SessionKey, read_session
from .scoring import ScoreSource
from .session import Session
from .system.memory import cache_budget
from .system.threads import choose_threads
from .text.vocabulary import Prompt
from .text_table import plural
from .validation import check_callable, check_choice, check_int, check_token_ids

__all__ = ["BitNetModel", "Model", "load"]

log = logging.getLogger(__name__)

DEFAULT_KV_DTYPE = "bfloat16"


@public_class
class BitNetModel(
    CompletionSource, AsyncSource, ScoreSource, EmbeddingSource, HubSource, ModelFacts
):
    """A ternary language model.

    Parameters
    ----------
    path : path, optional
        A `.safetensors` file with config.json (and tokenizer.json) beside it, a checkpoint
        directory, a `.gguf` file, or None for the built-in demo model. `from_pretrained` opens a
        repository of the Hugging Face Hub.
    n_threads : int, optional
        Number of threads, obeyed exactly. Default: the current value of `OMP_NUM_THREADS`, else
        the smallest of: CPUs that this process may use, the cgroup quota rounded down, physical
        cores, and one thread for each 12 million weights (a small model gains nothing from more).
    context_length : int, optional
        Tokens that a sequence may have. The checkpoint's value is the default and the maximum.
    kv_dtype : "float32", "bfloat16" or "int8", optional
        How keys and values are kept. Default: bfloat16, which has the perplexity of float32.
    skipping : bool, optional
        Whether decoding skips weights that squared ReLU makes irrelevant. Default: where that is
        faster. Results are equal bit for bit either way. Other activations have nothing to skip.
    weight_format : "2bit", "1.6bit" or "table", optional
        How ternary weights are kept in memory. "1.6bit" has five weights a byte. "table" has three
        weights in five bits, for kernels that look up sums instead of multiplying; there, weights
        that `skipping` may leave out have two bits each. Default: the format that is fastest on
        this CPU for a large model, "2bit" for others. Results are equal bit for bit. Weights with
        scales for groups of columns are always kept with two bits.
    activations : "int8" or "float32", optional
        Inputs of ternary products, for models that were trained without quantised activations
        (Ternary-Bonsai, CAT-Q, TriLM): "int8" with a scale for each group of 64 or 128, the
        default, or "float32", which is slow. Models that were trained with int8 have no choice.
    prefix_cache_bytes : int, optional
        Memory that the keys and values of all sessions, caches and earlier prompts may take
        together. When it is used up, earlier prompts make room first, the longest unused one before
        the others; then requests wait for each other. Default: a tenth of this machine's memory, or
        of what its control group allows, but at least one full context, if that fits the memory.
    packed_cache : bool or path, optional
        Whether to keep the packed weights of a large model on disk and map them at the next start.
        True: in the user's cache directory, or where `RYZANSTEIN_CACHE` says. A path: in that
        directory. False: not at all. If they cannot be kept, a warning is logged, and the model
        works without them.
    progress : callable (done, total, what), optional
        Called while weights load.

    Raises
    ------
    CheckpointNotFoundError, FormatError, UnsupportedModelError
        If the checkpoint is missing, malformed, or of an unsupported kind.
    InvalidParameterError
        If an argument is out of range.
    MemoryLimitError
        If its weights cannot be in the memory that this process can have; see `memory_limit`.
    KernelSelfTestError, UnsupportedIsaError
        If a kernel gives other results here than portable C does; if `RYZANSTEIN_ISA` names a tier
        that this CPU, this build or the operating system does not have or permit.

    Notes
    -----
    The same checkpoint, options, prompt and seed give the same logits bit for bit, whatever the
    number of threads, the instruction set, and what was computed or cached earlier.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        n_threads: int | None = None,
        context_length: int | None = None,
        kv_dtype: str | None = None,
        skipping: bool | None = None,
        weight_format: str | None = None,
        activations: str | None = None,
        prefix_cache_bytes: int | None = None,
        packed_cache: bool | str | os.PathLike[str] = True,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> None:
        threads = choose_threads(n_threads)
        kept = DEFAULT_KV_DTYPE if kv_dtype is None else kv_dtype
        kind = KV_DTYPES[check_choice("kv_dtype", kept, KV_DTYPES)]
        if weight_format is not None:
            check_choice("weight_format", weight_format, WEIGHT_FORMATS)
        if activations is not None:
            check_choice("activations", activations, ("int8", "float32"))
        if skipping is not None and not isinstance(skipping, bool):
            problem = f"must be True, False or None, not {skipping!r}"
            raise InvalidParameterError(problem, "skipping")
        if prefix_cache_bytes is not None:
            check_int("prefix_cache_bytes", prefix_cache_bytes, 1, 1 << 62)
        check_callable("progress", progress)
        loaded = load_checkpoint(
            path,
            cache_directory(packed_cache),
            n_threads=threads.count,
            kv_kind=kind,
            skipping=skipping,
            weight_format=weight_format,
            activations=activations,
            progress=progress,
        )
        graph = loaded.graph
        self.path: Path = loaded.path
        self.generation_config: dict[str, Any] = loaded.generation_config
        self.chat_template, self.packed_file = loaded.chat_template, loaded.packed_file
        self.embedding_settings = loaded.embedding_settings
        self.threads = threads.for_model(graph.n_parameters).possible()
        self.config = graph.config
        limit = self.config.context_length
        wanted = limit if context_length is None else context_length
        self.context_length = check_int("context_length", wanted, 1, limit)
        self.vocabulary = replace(loaded.vocabulary, context_length=self.context_length)
        self._layout = graph.kv_layout(kind)
        shape = (self._layout, self.context_length)
        store = Store(*shape, cache_budget(prefix_cache_bytes, *shape, loaded.private_bytes))
        self.engine = Engine(graph, self.threads.count, store)
        key = (self.path, loaded.stamps, self._layout, activations or "int8")
        self._session_key = SessionKey(*key)
        self.engine.watches = loaded.watches
        self._caches: weakref.WeakSet[KVCache] = weakref.WeakSet()  # of callers of new_cache
        chosen = (self._layout, self.threads, self.context_length)
        self._facts = model_facts(graph, self.vocabulary, *chosen, self.packed_file)
        count = plural(self.threads.count, "thread")
        log.info("%s: %s, %s, %s", self.path, graph.family, count, cpu.current_tier())

    # ---- text ------------------------------------------------------------------------------

    def session(self) -> Session:
        """A new, empty session. It has its own tokens and shares the model's weights."""
        refuse_embedding_model(self.engine.graph, self.path)
        return Session(self.engine, self.vocabulary, self._session_key)

    def load_session(self, path: str | os.PathLike[str]) -> Session:
        """A session as `Session.save` wrote it, with its keys and values.

        Raises
        ------
        SessionNotFoundError
            If the file cannot be read.
        SavedSessionError
            If it was made with another model, kv_dtype or activations.
        FormatError
            If it is damaged.
        UnsupportedModelError, ContextOverflowError, CacheBudgetError, ClosedError
        """
        refuse_embedding_model(self.engine.graph, self.path)
        tokens = read_session(path, self._session_key, self.engine, self.vocab_size)
        return Session(self.engine, self.vocabulary, self._session_key, tokens)

    def tokenize(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The token ids of a text. Beginning-of-text is added if the tokenizer says so.

        Raises
        ------
        TokenizerMissingError
            If the checkpoint has no tokenizer.json.
        FormatError
            If the tokenizer gives an id that the model does not have.
        """
        return self.vocabulary.tokenize(text, add_special_tokens=add_special_tokens)

    def detokenize(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids. Errors: as `tokenize`, and InvalidParameterError for bad ids."""
        return self.vocabulary.detokenize(ids, skip_special_tokens=skip_special_tokens)

    # ---- numbers ---------------------------------------------------------------------------

    def forward(
        self,
        ids: Sequence[int] | NDArray[np.integer[Any]],
        cache: KVCache | None = None,
        logits: Literal["all", "last"] = "all",
    ) -> NDArray[np.float32]:
        """Logits after each token, or only after the last.

        Parameters
        ----------
        ids : sequence of int, at least one
        cache : KVCache, optional
            From `new_cache()`. It holds the tokens before `ids`, and `ids` are appended to it.
        logits : "all" or "last"

        Returns
        -------
        float32 array of shape (len(ids), vocab_size) or (1, vocab_size)

        Raises
        ------
        InvalidParameterError, ContextOverflowError, CacheBudgetError, SessionBusyError, ClosedError
        """
        _ = self.engine.graph  # ClosedError
        cache = self._own_cache(cache)
        tokens = check_token_ids(
            "ids", ids, self.vocab_size, most=self.context_length, before=cache.length
        )
        which = check_choice("logits", logits, ("all", "last"))
        if not tokens:
            raise InvalidParameterError("must hold at least one token", "ids")
        flag = new_cancel_flag()
        if which == "last":
            return self.engine.last_logits(cache, tokens, flag)[None]
        return self.engine.all_logits(cache, tokens, flag)

    def new_cache(self) -> KVCache:
        """An empty cache for `forward`."""
        _ = self.engine.graph  # ClosedError
        cache = self.engine.store.new_cache()
        self._caches.add(cache)
        return cache

    def perplexity(
        self,
        text: str | Sequence[int],
        *,
        stride: int | None = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> PerplexityResult:
        """Perplexity of a text, scored in consecutive windows of the context length. Each window
        begins with the beginning-of-text token, which is not scored.

        Parameters
        ----------
        text : str or sequence of int
            Ids may begin with beginning-of-text, as `tokenize` gives them, or not.
        stride : int, optional
            Start a window every `stride` tokens, and score only tokens that the window before did
            not. A smaller stride is slower and gives each token more context.
        progress : callable (done, total, what), optional

        Raises
        ------
        InvalidParameterError
            If there is nothing to score.
        UnsupportedModelError
            If the model embeds texts and cannot continue them.
        """
        refuse_embedding_model(self.engine.graph, self.path)
        return perplexity(self.engine, self.vocabulary, text, stride=stride, progress=progress)

    def profile(self) -> Profile:
        """Measure where the time goes, by operation, while the model computes in a `with` block:

        with model.profile() as profile:
            model.generate("Once upon a time", max_tokens=50)
        print(profile.text())
        """
        _ = self.engine.graph  # ClosedError
        return Profile(self.engine)

    # ---- facts -----------------------------------------------------------------------------

    @property
    def graph(self) -> Any:
        """The family's graph with its weights; for inspection."""
        return self.engine.graph

    def close(self) -> None:
        """Free weights and caches, after a running pass has ended. Closing twice is fine."""
        self.engine.close()

    def __enter__(self) -> BitNetModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("a BitNetModel cannot be pickled; open it from its path in each process")

    def _start(
        self, prompt: Prompt, arguments: GenerationArguments, *, needs_text: bool
    ) -> Generation:
        """A new request; prompt and arguments have passed all checks."""
        refuse_embedding_model(self.engine.graph, self.path)
        options = GenerationOptions.from_arguments(arguments)
        self.vocabulary.refuse_text(needs_text or bool(options.stop))
        ids = self.vocabulary.read_prompt(prompt, any_length=options.overflow != "error")
        fitted(ids.first, options, self.engine, self.vocabulary.start_id)
        return Generation(self.engine, self.vocabulary, ids, options)

    def _own_cache(self, cache: KVCache | None) -> KVCache:
        if cache is None:
            return self.new_cache()
        if not isinstance(cache, KVCache) or cache not in self._caches:
            problem = f"must come from this model's new_cache(), not {cache!r}"
            raise InvalidParameterError(problem, "cache")
        return cache


Model = BitNetModel
"""The same class: not every ternary model is a BitNet."""


def load(path: str | os.PathLike[str] | None = None, **options: Any) -> BitNetModel:
    """Open a model: `BitNetModel(path, **options)`."""
    return BitNetModel(path, **options)
