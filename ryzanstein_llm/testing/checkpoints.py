"""Random checkpoints: names, shapes and files of real ones, with arbitrary but sensible weights."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidParameterError
from ..validation import check_bool, check_callable, check_choice, check_float, check_int
from .presets import preset_config, preset_generation_config
from .shapes import FORMS, Form
from .shards import write_shards
from .tokenizer_files import tokenizer_config_json, tokenizer_json
from .weights import DType, LinearClass, random_plans

__all__ = ["make_checkpoint"]


def make_checkpoint(
    directory: str | os.PathLike[str],
    preset_or_config: str | Mapping[str, Any],
    *,
    seed: int = 0,
    form: Form = "packed",
    linear_class: LinearClass | None = "autobitlinear",
    dtype: DType = "BF16",
    shards: int = 1,
    tokenizer: bool = True,
    sparse_gates: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    ternary_embedding: bool = False,
    peaked: bool = False,
) -> Path:
    """Write a checkpoint with seeded random weights.

    The same arguments give the same files under the same version of NumPy.

    Parameters
    ----------
    directory
        Is created if needed. It must not have weights yet.
    preset_or_config
        A name in `PRESETS`, or the contents of a `config.json` (its `quantization_config` is
        replaced).
    seed
        0 to 2**64 - 1.
    form
        How projections are stored. `"packed"`: uint8 codes with a `weight_scale`; `"master"`: float
        weights; `"groups64"` and `"groups128"`: floats that are ternary already, with a scale for
        each 64 or 128 columns of a row, and without `quantization_config`.
    linear_class
        Its value in `quantization_config`; None leaves the key out. `weight_scale` is the
        multiplier for `"autobitlinear"`, and its reciprocal otherwise.
    dtype
        The dtype of everything that is not packed.
    shards
        Number of weight files. If there are several, an index is written too.
    tokenizer
        Whether to write `tokenizer.json` and `tokenizer_config.json`. They need a `vocab_size` of
        at least 256 plus the number of special tokens.
    sparse_gates
        Share of positive gates, between 0 and 1 exclusive, for benchmarks of activation sparsity.
        0.2 leaves about an eighth of the int8 inputs of `down_proj` non-zero. None: half of the
        gates are positive, and a third of the inputs is non-zero. The share is met within a few
        hundredths.
    progress
        Called as `progress(bytes_done, bytes_total)` while weights are written.
    ternary_embedding
        Whether embedding and head are ternary in the same groups, as in Ternary-Bonsai.
    peaked
        Whether logits are distributed as in a trained model: like those of the demo model among a
        32nd of the tokens, and lower among the rest (see `weights.py`). Otherwise all tokens are
        alike. Prompts should consist of the first 32nd of the vocabulary.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    InvalidParameterError
        A parameter is out of range, or the directory already has weights.
    """
    if not isinstance(preset_or_config, (str, Mapping)):
        problem = f"must be a name or a mapping, not {preset_or_config!r}"
        raise InvalidParameterError(problem, "preset_or_config")
    if isinstance(preset_or_config, str):
        config, origin = preset_config(preset_or_config), preset_or_config
    else:
        config, origin = dict(preset_or_config), "config"
    seed = check_int("seed", seed, 0, (1 << 64) - 1)
    check_choice("form", form, FORMS)
    check_bool("ternary_embedding", ternary_embedding)
    check_bool("peaked", peaked)
    if linear_class is not None:
        check_choice("linear_class", linear_class, ("autobitlinear", "bitlinear"))
    check_choice("dtype", dtype, ("BF16", "F16", "F32"))
    check_bool("tokenizer", tokenizer)
    check_callable("progress", progress)
    if sparse_gates is not None:
        sparse_gates = check_float("sparse_gates", sparse_gates, 0, 1, above_low=True)
        if sparse_gates == 1:
            raise InvalidParameterError(f"must be below 1, not {sparse_gates!r}", "sparse_gates")
    config["torch_dtype"] = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype]
    config.pop("quantization_config", None)
    if form in ("packed", "master"):
        config["quantization_config"] = _quantization_config(form, linear_class)
        if ternary_embedding:
            problem = "needs a form of groups: 'groups64' or 'groups128'"
            raise InvalidParameterError(problem, "ternary_embedding")
    if peaked and ternary_embedding:
        raise InvalidParameterError("needs an embedding of floats", "peaked")
    plans = random_plans(
        config,
        seed=seed,
        form=form,
        linear_class=linear_class,
        dtype=dtype,
        sparse_gates=sparse_gates,
        ternary_embedding=ternary_embedding,
        peaked=peaked,
    )
    shards = check_int("shards", shards, 1, len(plans))
    texts = {"config.json": config, "generation_config.json": preset_generation_config(config)}
    if tokenizer:
        texts["tokenizer.json"] = tokenizer_json(config)
        texts["tokenizer_config.json"] = tokenizer_config_json(config)

    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    present = sorted(file.name for file in path.glob("*.safetensors*"))
    if present:
        problem = f"{str(path)!r} already holds weights ({present[0]})"
        raise InvalidParameterError(problem, "directory")
    for name, value in texts.items():
        # The vocabulary is long, and nobody reads a tokenizer file: one line.
        indent = None if name == "tokenizer.json" else 2
        text = json.dumps(value, indent=indent, ensure_ascii=False)
        (path / name).write_text(text + "\n", encoding="utf-8")
    total = sum(plan.nbytes for plan in plans)
    done = 0

    def written(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    # transformers refuses a file whose metadata name no framework.
    metadata = {"format": "pt", "random_weights": f"{origin}, seed {seed}"}
    write_shards(path, plans, shards, metadata=metadata, written=written)
    return path


def _quantization_config(form: Form, linear_class: LinearClass | None) -> dict[str, str]:
    result = {"quant_method": "bitnet"}
    if linear_class is not None:
        result["linear_class"] = linear_class
    result["quantization_mode"] = "offline" if form == "packed" else "online"
    return result
