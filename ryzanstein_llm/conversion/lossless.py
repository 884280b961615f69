"""`convert`: checks, disk space, and a result that appears when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import DiskSpaceError, InvalidParameterError, WriteError
from ..formats import Checkpoint, open_checkpoint
from ..formats.new_file import partial_beside, unwritable, writing
from ..loading import special_ids
from ..models import LoadOptions, plan_model
from ..models.gguf_names import translate
from ..system.threads import choose_threads
from ..text.gguf_tokenizer_writer import tokenizer_metadata
from ..text.tokenizer import Tokenizer
from ..text_table import format_bytes
from ..validation import check_bool, check_callable, check_choice, check_path
from .gguf_target import GGUF_TYPES, GgufTarget
from .safetensors_target import SafetensorsTarget
from .source import Source

__all__ = ["TARGETS", "convert"]

TARGETS = ("safetensors", *GGUF_TYPES)

Progress = Callable[[int, int, str], None]


def convert(
    src: str | os.PathLike[str] | None,
    dst: str | os.PathLike[str],
    *,
    to: str | None = None,
    tokenizer: bool = True,
    n_threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write a model in another format. Its logits stay equal bit for bit.

    Parameters
    ----------
    src : path or None
        As `path` of `BitNetModel`.
    dst : path
        A folder for "safetensors", a file for the others. It must not exist.
    to : "safetensors", "tq2_0" or "i2_s", optional
        "safetensors": a folder as transformers reads it. Models with one scale for each matrix and
        int8 activations are packed, with `quantization_config`; those with scales for groups become
        float16, which holds them exactly. "tq2_0" and "i2_s": a GGUF file with ternary weights of
        this type. Default: for a name that ends in .gguf "i2_s" if each matrix has one scale and
        activations have one for each token, else "tq2_0"; for other names "safetensors".
    tokenizer : bool
        Whether the result has the tokenizer. Without it, it takes and gives ids.
    n_threads : int, optional
        Number of threads.
    progress : callable (done, total, what), optional

    Returns
    -------
    Path
        `dst`.

    Raises
    ------
    ConversionError
        The format cannot hold the model, or its tokenizer, as it is.
    CheckpointNotFoundError, FormatError, UnsupportedModelError
        As for `BitNetModel`.
    InvalidParameterError
        An argument is out of range, or `dst` exists, is in no folder, or ends like another format.
    DiskSpaceError
        The disk has not enough room.
    WriteError
        A file cannot be written.
    """
    target = check_path("dst", dst)
    if to is not None:
        check_choice("to", to, TARGETS)
    check_bool("tokenizer", tokenizer)
    check_callable("progress", progress)
    threads = choose_threads(n_threads).count
    _check_free(target)
    if not target.parent.is_dir():
        raise InvalidParameterError(f"{target}: there is no folder {target.parent}", "dst")
    _check_name(target, to, as_folder=os.fspath(dst).endswith(("/", os.sep)))
    with open_checkpoint(src) as opened:
        checkpoint = translate(opened)
        source = Source(checkpoint, threads)
        if to is None:
            gguf = "i2_s" if source.one_scale else "tq2_0"
            to = gguf if target.name.lower().endswith(".gguf") else "safetensors"
        plan: SafetensorsTarget | GgufTarget
        if to == "safetensors":
            plan = SafetensorsTarget(source, tokenizer)
        else:
            plan = GgufTarget(source, to, _tokenizer_keys(checkpoint, source, tokenizer))
        _check_room(target, plan.nbytes)

        def written(done: int, total: int) -> None:
            if progress is not None:
                progress(done, total, "converting weights")

        with _complete(target, folder=to == "safetensors") as partial:
            plan.write(partial, written)
            with open_checkpoint(partial) as result:
                made = translate(result)
                source.check_same(plan_model(made, LoadOptions(threads)), target)
    return target


def _check_free(target: Path) -> None:
    """Refuse a name that is taken, or that no file can have."""
    try:
        target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise unwritable(target, error) from error
    raise InvalidParameterError(f"{target} exists already", "dst")


def _check_name(target: Path, to: str | None, *, as_folder: bool) -> None:
    """Refuse a name that says something else than the format. `as_folder`: it ends in a slash."""
    ending, name = target.suffix.lower(), target.with_suffix("")
    is_gguf = target.name.lower().endswith(".gguf") if to is None else to in GGUF_TYPES
    if as_folder and is_gguf:
        file = target if ending == ".gguf" else target.with_name(f"{target.name}.gguf")
        problem = f"{target}/ is a folder, and a GGUF file is none; call it {file}"
        raise InvalidParameterError(problem, "dst")
    gguf = " or ".join(map(repr, GGUF_TYPES))
    if to in GGUF_TYPES:
        wrong, problem = ".safetensors", f"{to!r} is a GGUF file; call it {name}.gguf"
    else:
        wrong, problem = ".safetensors", f"'safetensors' is a folder; call it {name}"
        if ending == ".gguf" and to is not None:
            wrong, problem = ".gguf", f"{problem}, or choose {gguf} for a GGUF file"
    if ending == wrong:
        raise InvalidParameterError(f"{target} ends in {wrong}, but {problem}", "dst")


def _tokenizer_keys(checkpoint: Checkpoint, source: Source, wanted: bool) -> dict[str, Any]:
    """What a GGUF file says about the tokenizer."""
    found = Tokenizer.from_checkpoint(checkpoint) if wanted else None
    size = source.plan.description.config.vocab_size
    eos_ids, _ = special_ids(checkpoint, found, size)
    if found is None:
        ends = zip(("eos", "eot", "eom"), eos_ids, strict=False)
        ids = {f"tokenizer.ggml.{kind}_token_id": number for kind, number in ends}
        return {"tokenizer.ggml.model": "none", **ids}
    if checkpoint.metadata is not None:
        keys = {
            key: checkpoint.metadata[key]
            for key in checkpoint.metadata
            if key.startswith("tokenizer.")
        }
        if checkpoint.chat_template is not None:
            keys["tokenizer.chat_template"] = checkpoint.chat_template
        return keys
    assert checkpoint.tokenizer_path is not None
    own = () if found.eos_id is None else (found.eos_id,)
    return tokenizer_metadata(
        found.raw,
        str(checkpoint.tokenizer_path),
        size=size,
        bos_id=found.bos_id,
        eos_ids=tuple(dict.fromkeys((*own, *eos_ids))),
        chat_template=checkpoint.chat_template,
    )


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed:
        problem = f"takes {format_bytes(needed)}, and {format_bytes(free)} are free on its disk"
        raise DiskSpaceError(str(target), problem, errno.ENOSPC)


@contextlib.contextmanager
def _complete(target: Path, *, folder: bool) -> Iterator[Path]:
    """A name beside `target` for a file or a folder, which gets the name of `target` at the end of
    the `with` block. An exception, Ctrl-C too, deletes it. Errors of writing name `target`."""
    partial = partial_beside(target)
    try:
        if folder:
            with writing(target):
                partial.mkdir()
        try:
            yield partial
        except WriteError as error:
            raise unwritable(target, error) from error
        if os.path.lexists(target):
            raise InvalidParameterError(f"{target} exists already", "dst")
        with writing(target):
            os.rename(partial, target)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)
