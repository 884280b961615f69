"""Frequencies of RoPE and their scaling, as papers and transformers define them, in float64.

Exponents, frequencies and angles are rounded to float32, because models are trained with that.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


def rope_frequencies(
    config: dict[str, Any], head_dim: int, *, local: bool = False
) -> tuple[npt.NDArray[np.float32], float]:
    """(radians a position by which each pair turns, factor of cosines and sines)."""
    scaling = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    defaults = {"gemma3_text": 1e6, "bitnet": 5e5 if config.get("hidden_act") == "relu2" else 1e4}
    if local:
        nested = scaling.get("sliding_attention", {})
        theta = nested.get("rope_theta", config.get("rope_local_base_freq", 1e4))
        scaling = {}
    else:
        scaling = scaling.get("full_attention", scaling)
        theta = config.get("rope_theta", defaults.get(config["model_type"], 1e4))
        theta = scaling.get("rope_theta", theta)
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    factor = float(scaling.get("factor", 1.0))
    if kind == "dynamic":  # Hunyuan's, which has an alpha
        theta *= scaling["alpha"] ** (head_dim / (head_dim - 2))
    pairs = np.arange(head_dim // 2)
    exponents = np.float32(2) * pairs.astype(np.float32) / np.float32(head_dim)
    plain = 1.0 / float(theta) ** exponents.astype(np.float64)
    original = scaling.get("original_max_position_embeddings")
    if kind == "linear":
        return (plain / factor).astype(np.float32), 1.0
    if kind == "yarn":
        low, high = yarn_range(scaling, head_dim, theta)
        ramp = np.clip((pairs - low) / (high - low), 0.0, 1.0)
        scaled = plain * ((1.0 - ramp) + ramp / factor)
        return scaled.astype(np.float32), 0.1 * math.log(factor) + 1.0
    if kind == "llama3":
        turns = original * plain / (2 * math.pi)  # within the original context
        slow, fast = scaling["low_freq_factor"], scaling["high_freq_factor"]
        smooth = np.clip((turns - slow) / (fast - slow), 0.0, 1.0)
        return (plain * (smooth + (1.0 - smooth) / factor)).astype(np.float32), 1.0
    return plain.astype(np.float32), 1.0


def yarn_range(scaling: dict[str, Any], head_dim: int, theta: float) -> tuple[int, int]:
    """The pairs between which YaRN goes from kept to divided frequencies (arXiv 2309.00071)."""
    original = scaling["original_max_position_embeddings"]

    def pair(turns: float) -> float:
        return head_dim * math.log(original / (2 * math.pi * turns)) / (2 * math.log(theta))

    low = max(math.floor(pair(scaling.get("beta_fast", 32))), 0)
    return low, min(math.ceil(pair(scaling.get("beta_slow", 1))), head_dim - 1)


def rotate(x: Float64, frequencies: npt.NDArray[np.float32], factor: float) -> Float64:
    """Rotate (tokens, heads, head_dim) at positions 0, 1, 2, ...; element i is paired with
    i + head_dim/2."""
    half = x.shape[-1] // 2
    angles = np.arange(len(x), dtype=np.float32)[:, None] * frequencies[None, :]
    cos = factor * np.cos(angles.astype(np.float64))[:, None, :]
    sin = factor * np.sin(angles.astype(np.float64))[:, None, :]
    low, high = x[..., :half], x[..., half:]
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)
