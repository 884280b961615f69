"""From a checkpoint on disk to a model in memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import FormatError, InvalidParameterError
from .formats import Checkpoint, EmbeddingSettings, FileStamp, open_checkpoint
from .formats.watch import Watch
from .kernels import cpu
from .kernels.self_test import check_kernels
from .models import CausalLM, LoadOptions, kernel_uses, plan_model, prepare_model
from .models.gguf_names import translate
from .models.memory import packed_bytes, private_bytes
from .models.room import refuse_too_large
from .packed_cache import keeps_file, load_through_cache
from .text.gguf_tokenizer import end_ids
from .text.tokenizer import Tokenizer
from .text.vocabulary import Vocabulary
from .validation import check_int

__all__ = ["LoadedModel", "load_checkpoint", "special_ids"]

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class LoadedModel:
    """
    Attributes
    ----------
    path : Path
    graph : CausalLM
    vocabulary : Vocabulary
    generation_config : dict
        The checkpoint's generation_config.json; {} if it has none.
    chat_template : str or None
    embedding_settings : EmbeddingSettings
    packed_file : Path or None
        The file that packed weights are mapped from.
    stamps : list of FileStamp
        Those of the weight files.
    watches : list of Watch
        Of the weight files.
    private_bytes : int
        Memory that it takes without keys and values, and that the system cannot reclaim.
    """

    path: Path
    graph: CausalLM
    vocabulary: Vocabulary
    generation_config: dict[str, Any]
    chat_template: Any
    embedding_settings: EmbeddingSettings
    packed_file: Path | None
    stamps: list[FileStamp]
    watches: list[Watch]
    private_bytes: int


def load_checkpoint(
    path: str | os.PathLike[str] | None,
    directory: Path | None,
    *,
    n_threads: int,
    kv_kind: str,
    skipping: bool | None,
    weight_format: str | None,
    activations: str | None,
    progress: Progress | None,
) -> LoadedModel:
    """Open a checkpoint and load its weights, after a test of the kernels that it will use. Packed
    weights are kept in `directory`, unless that is None. The other parameters, and errors, are
    those of `BitNetModel`."""
    cpu.request_permission()
    with open_checkpoint(path) as opened:
        checkpoint = translate(opened)
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
        options = LoadOptions(n_threads, skipping, weight_format, activations=activations)
        plan = plan_model(checkpoint, options)
        check_kernels(kernel_uses(plan, checkpoint, kv_kind))
        refuse_too_large(
            checkpoint, plan, options, mapped=keeps_file(directory, packed_bytes(plan))
        )
        loader = prepare_model(checkpoint, options, plan)
        graph, packed_file = load_through_cache(checkpoint, directory, loader, progress)
        size = graph.config.vocab_size
        eos_ids, start_id = special_ids(checkpoint, tokenizer, size)
        return LoadedModel(
            checkpoint.path,
            graph,
            Vocabulary(checkpoint.path, size, tokenizer, eos_ids, start_id),
            checkpoint.generation_config,
            checkpoint.chat_template,
            checkpoint.embedding,
            packed_file,
            [file.stamp for file in opened.open_files],
            [file.watch() for file in checkpoint.open_files],
            private_bytes(plan, checkpoint, mapped=packed_file is not None),
        )


def special_ids(
    checkpoint: Checkpoint, tokenizer: Tokenizer | None, vocab_size: int
) -> tuple[tuple[int, ...], int | None]:
    """(all end-of-text ids, the id that an empty prompt starts from).

    config.json, generation_config.json and the tokenizer may name different end-of-text ids. Each
    of them ends the text. An empty prompt starts from the padding id only if there is no
    beginning-of-text id; otherwise nothing uses it, and in any case -1 means that there is none.
    """

    def named(key: str, unused: Callable[[Any], bool] = lambda number: False) -> list[int]:
        found: list[int] = []
        for name, source in (
            ("config.json", checkpoint.config),
            ("generation_config.json", checkpoint.generation_config),
        ):
            value = source.get(key)
            for number in value if isinstance(value, list) else [] if value is None else [value]:
                try:
                    found.append(
                        check_int(f"{checkpoint.path}: {name}: {key}", number, 0, vocab_size - 1)
                    )
                except InvalidParameterError as error:
                    if not unused(number):
                        raise FormatError(str(error)) from None
                    log.info("left out, because nothing uses it: %s", error)
        return found

    eos = named("eos_token_id")
    if tokenizer is not None and tokenizer.eos_id is not None:
        eos.append(tokenizer.eos_id)
    if checkpoint.metadata is not None and tokenizer is not None:
        eos += end_ids(checkpoint.metadata, str(checkpoint.path))
    bos = named("bos_token_id")
    if not bos and tokenizer is not None and tokenizer.bos_id is not None:
        bos = [tokenizer.bos_id]
    pad = named("pad_token_id", lambda number: bool(bos) or number == -1)
    start = [*bos, *pad, *eos]
    return tuple(dict.fromkeys(eos)), start[0] if start else None
