"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864) and its scaling to long contexts.

Frequencies are computed in the float32 steps of transformers' `modeling_rope_utils`. Powers and
logarithms are the library's own (rotary_table.h), so no bit depends on the C library; everything
else is single operations on float32, which IEEE 754 defines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..kernels.elementwise import log, power
from ..kernels.packing import rotary_powers, rotary_table
from .config_reader import ConfigReader

__all__ = ["Rope", "RotaryTable", "read_rope"]

Float32 = NDArray[np.float32]
Kind = Literal["default", "linear", "yarn", "llama3", "ntk_alpha"]

# What a config may say for each kind besides its name and rope_theta.
KEYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "yarn": (
        "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
        "mscale", "mscale_all_dim", "truncate",
    ),
    "llama3": (
        "factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor",
    ),
    "ntk_alpha": ("alpha",),
}  # fmt: skip
ALL_KEYS = {
    "rope_type", "type", "rope_theta", "partial_rotary_factor",
    *(key for keys in KEYS.values() for key in keys),
}  # fmt: skip


@dataclass(frozen=True)
class Rope:
    """
    Attributes
    ----------
    theta : float
        Base of the frequencies, at least 1: frequency i is theta^(-2i / head_dim).
    kind : str
        How frequencies are scaled. "default": not. "linear": divided by `factor`. "yarn": blended
        between both by how often a dimension turns within the original context (arXiv 2309.00071).
        "llama3": likewise, by wavelength (Llama 3.1). "ntk_alpha": theta is multiplied by
        alpha^(head_dim / (head_dim - 2)) (Hunyuan).
    factor, alpha : float
    original_length : int
        The context length before scaling, in tokens.
    beta_fast, beta_slow : float
        yarn: dimensions that turn more often than `beta_fast` times stay as they are, and those
        that turn less often than `beta_slow` times are divided by `factor`.
    truncate : bool
        yarn: whether the borders between these are rounded outwards to whole dimensions.
    low_freq_factor, high_freq_factor : float
        llama3: the same as numbers of turns, slow and fast.
    attention_factor : float
        Factor of all cosines and sines, so scores grow by its square.
    """

    theta: float
    kind: Kind = "default"
    factor: float = 1.0
    original_length: int = 0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    alpha: float = 1.0
    attention_factor: float = 1.0

    def inverse_frequencies(self, head_dim: int) -> Float32:
        """Radians a position by which each pair of elements turns: float32 (head_dim // 2,)."""
        theta = self.theta
        if self.kind == "ntk_alpha" and head_dim > 2:  # else there is only frequency 1
            theta *= power(self.alpha, head_dim / (head_dim - 2))
        powers = rotary_powers(theta, head_dim)
        plain = np.float32(1) / powers
        factor = np.float32(self.factor)
        if self.kind == "linear":
            divided: Float32 = plain / factor
            return divided
        if self.kind == "yarn":
            keep = np.float32(1) - self.yarn_ramp(head_dim)
            scaled = np.float32(1) / (factor * powers)
            return scaled * (np.float32(1) - keep) + plain * keep
        if self.kind == "llama3":
            return self._llama3(plain)
        return plain

    def yarn_range(self, head_dim: int) -> tuple[float, float]:
        """yarn: the pairs between which frequencies go over from kept to divided."""

        def pair(turns: float) -> float:
            """The pair of elements that turns so many times within the original context."""
            length = self.original_length / (turns * 2 * math.pi)
            return (head_dim * _log(length)) / (2 * _log(self.theta))

        low, high = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        return max(low, 0), min(high, head_dim - 1)

    def yarn_ramp(self, head_dim: int) -> Float32:
        """yarn: 0 for pairs whose frequency is kept, 1 for those that are divided by the factor,
        and what lies between: float32 (head_dim // 2,)."""
        low, high = self.yarn_range(head_dim)
        if low == high:
            high += 0.001  # as in transformers; otherwise a division by zero
        pairs = np.arange(head_dim // 2, dtype=np.float32)
        ramp = (pairs - np.float32(low)) / np.float32(high - low)
        limited: Float32 = np.minimum(np.maximum(ramp, np.float32(0)), np.float32(1))
        return limited

    def _llama3(self, plain: Float32) -> Float32:
        one, factor = np.float32(1), np.float32(self.factor)
        low, high = self.low_freq_factor, self.high_freq_factor
        wavelengths = np.float32(2 * math.pi) / plain
        divided = np.where(
            wavelengths > np.float32(self.original_length / low), plain / factor, plain
        )
        turns = np.float32(self.original_length) / wavelengths
        smooth = (turns - np.float32(low)) / np.float32(high - low)
        blended = (one - smooth) * divided / factor + smooth * divided
        between = (wavelengths >= np.float32(self.original_length / high)) & (
            wavelengths <= np.float32(self.original_length / low)
        )
        return cast(Float32, np.where(between, blended, divided))


def read_rope(
    read: ConfigReader, default_theta: float, context_length: int, layer_type: str | None = None
) -> Rope:
    """What config.json says about RoPE, in either spelling: `rope_theta` with `rope_scaling`, or
    `rope_parameters` (transformers 5), which may hold an object for each type of layer.

    Raises
    ------
    FormatError, UnsupportedModelError
        A value makes no sense, two of them contradict each other, or a kind is not supported.
    """
    section = _section(read, layer_type)
    section.expect(*ALL_KEYS)
    section.refuse_unread()
    kind = section.value("rope_type", section.value("type", "default"))
    if kind == "dynamic" and "alpha" in section:
        kind = "ntk_alpha"  # Hunyuan calls it dynamic, but it does not depend on the length
    if kind not in tuple(KEYS):  # not looked up: it may be a list, which has no hash
        supported = ", ".join(repr(name) for name in KEYS if name != "ntk_alpha")
        raise section.unsupported("rope_type", kind, f"supported are {supported}")
    for key in section.keys:
        if key not in ALL_KEYS:
            raise section.unsupported(key, section.value(key), "an unknown key of RoPE")
    for reader in (read, section):
        if reader.positive("partial_rotary_factor", 1.0) != 1:
            part = reader.value("partial_rotary_factor")
            raise reader.unsupported("partial_rotary_factor", part, "only 1 is supported")
    theta = _theta(read, section, default_theta)
    if kind == "default" and section.positive("factor", 1.0) != 1:
        raise section.wrong("rope_type", kind, "the kind of scaling that the factor belongs to")
    if kind in ("default", "ntk_alpha"):
        return Rope(theta, kind, alpha=section.positive("alpha", 1.0))
    original = read.integer(
        "original_max_position_embeddings",
        section.integer("original_max_position_embeddings", context_length),
    )
    factor = section.positive("factor", low=1.0)
    if kind == "linear":
        return Rope(theta, kind, factor)
    if kind == "llama3":
        low, high = section.positive("low_freq_factor"), section.positive("high_freq_factor")
        if high <= low:
            raise section.wrong("high_freq_factor", high, f"more than low_freq_factor {low:g}")
        return Rope(theta, kind, factor, original, low_freq_factor=low, high_freq_factor=high)
    fast, slow = section.positive("beta_fast", 32.0), section.positive("beta_slow", 1.0)
    if fast < slow:
        raise section.wrong("beta_fast", fast, f"at least beta_slow {slow:g}")
    if theta == 1:
        raise read.wrong("rope_theta", theta, "more than 1 for yarn")
    return Rope(
        theta, "yarn", factor, original, fast, slow, section.boolean("truncate", True),
        attention_factor=_attention_factor(section, factor),
    )  # fmt: skip


def _section(read: ConfigReader, layer_type: str | None) -> ConfigReader:
    old, new = read.section("rope_scaling"), read.section("rope_parameters")
    if layer_type is not None and layer_type in new:
        new = new.section(layer_type)
    for key in old.keys:
        if key in new.keys and old.value(key) != new.value(key):
            raise old.wrong(key, old.value(key), f"{new.value(key)!r} as in rope_parameters")
    if old and new:
        merged = {key: reader.value(key) for reader in (old, new) for key in reader.keys}
        return ConfigReader(read.checkpoint, merged, "rope_parameters")
    return new if new else old


def _theta(read: ConfigReader, section: ConfigReader, default: float) -> float:
    inner = section.value("rope_theta")
    outer = read.value("rope_theta")
    if inner is not None and outer is not None and inner != outer:
        raise read.wrong("rope_theta", outer, f"{inner!r} as in rope_parameters")
    where = read if inner is None else section
    return where.positive("rope_theta", default, low=1.0)


def _attention_factor(section: ConfigReader, factor: float) -> float:
    """As the paper suggests, unless the config has a number of its own."""
    if "attention_factor" in section:
        return section.positive("attention_factor")
    if section.value("mscale") and section.value("mscale_all_dim"):
        scale, everywhere = section.positive("mscale"), section.positive("mscale_all_dim")
        return _mscale(factor, scale) / _mscale(factor, everywhere)
    return _mscale(factor, 1.0)


def _mscale(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * _log(factor) + 1.0


def _log(value: float) -> float:
    return float(log(np.array([value]))[0])


class RotaryTable:
    """Cosines and sines by position. The table grows when later positions are needed."""

    def __init__(self, rope: Rope, head_dim: int, context_length: int) -> None:
        self._frequencies = rope.inverse_frequencies(head_dim)
        self._factor, self._context_length = rope.attention_factor, context_length
        self._tables = rotary_table(
            self._frequencies, 0, min(1024, context_length), rope.attention_factor
        )

    def tables(self, positions: int) -> tuple[Float32, Float32]:
        """(cos, sin), float32 (at least `positions`, head_dim // 2) each."""
        have = len(self._tables[0])
        if positions > have:
            end = min(max(2 * have, positions), max(self._context_length, positions))
            cosines, sines = rotary_table(self._frequencies, have, end, self._factor)
            self._tables = (
                np.concatenate((self._tables[0], cosines)),
                np.concatenate((self._tables[1], sines)),
            )
        return self._tables
