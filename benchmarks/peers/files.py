"""The files of a comparison: one checkpoint, its SiLU variant, and GGUF files of its weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.testing import make_checkpoint

from .gguf_file import silu_variant, write_gguf

__all__ = ["Files", "prepare_files"]

GGUF_VERSION = 1  # of what `write_gguf` writes: a change makes older files unused


@dataclass(frozen=True)
class Files:
    """
    Attributes
    ----------
    checkpoint : Path
        A directory, as it was given or made.
    silu : Path
        The same weights with SiLU: what llama.cpp computes.
    gguf : dict
        GGUF file by ternary type.
    """

    checkpoint: Path
    silu: Path
    gguf: dict[str, Path]


def prepare_files(
    directory: Path,
    checkpoint: Path | None,
    preset: str,
    ternary: Sequence[str],
    embedding: str,
    progress: Callable[[int, int, str], None],
) -> Files:
    """Make in `directory` what is not there yet.

    GGUF files carry the identity of the checkpoint in their names, so that a changed one gets new
    files; so does a changed `write_gguf`.

    Parameters
    ----------
    checkpoint : Path or None
        A checkpoint directory; None for random weights in the shapes of `preset`.
    ternary, embedding
        As `write_gguf` takes them.

    Raises
    ------
    RyzansteinError
        See `make_checkpoint` and `write_gguf`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if checkpoint is None:
        checkpoint = directory / preset
        if not (checkpoint / "model.safetensors").exists():
            make_checkpoint(
                checkpoint,
                preset,
                progress=lambda done, total: progress(done, total, "writing random weights"),
            )
    with open_checkpoint(checkpoint) as opened:
        identity = opened.sampled_digest()[:16]
    files = {}
    for kind in ternary:
        path = directory / f"{identity}-{kind}-{embedding}-v{GGUF_VERSION}.gguf"
        if not path.exists():
            write_gguf(
                checkpoint,
                path,
                ternary=kind,
                embedding=embedding,
                progress=lambda done, total, name=path.name: progress(done, total, name),  # type: ignore[misc]
            )
        files[kind] = path
    return Files(checkpoint, silu_variant(checkpoint, directory / f"{identity}-silu"), files)
