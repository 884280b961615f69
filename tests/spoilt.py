"""Spoilt checkpoints, and what refusing them looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import bitnet_config, quantization_config, random_tensors, write_checkpoint

from ryzanstein_llm.errors import RyzansteinError

# A checkpoint that loads; tests spoil one thing in it.
CONFIG = bitnet_config(
    hidden_size=48,
    intermediate_size=64,
    num_attention_heads=3,
    num_key_value_heads=1,
    vocab_size=50,
    max_position_embeddings=32,
    quantization_config=quantization_config("packed", "autobitlinear"),
)


def write_spoilt(
    directory: Path,
    config: dict[str, Any] | None = None,
    spoil: Callable[[dict[str, np.ndarray]], object] | None = None,
    form: str = "packed",
) -> Path:
    """A tiny checkpoint with changed config keys (None deletes one) and spoilt tensors."""
    changed = {**CONFIG, **(config or {})}
    changed = {key: value for key, value in changed.items() if value is not None}
    tensors = random_tensors(CONFIG, form, "autobitlinear", seed=1)
    if spoil is not None:
        spoil(tensors)
    return write_checkpoint(directory, changed, tensors)


@contextmanager
def refuses(error: type[RyzansteinError], *mentioned: object) -> Iterator[None]:
    """Expects an error of exactly this type whose message holds all of `mentioned`."""
    with pytest.raises(error) as caught:
        yield
    assert type(caught.value) is error
    missing = [part for part in map(str, mentioned) if part not in str(caught.value)]
    assert not missing, f"{caught.value} does not mention {missing}"
