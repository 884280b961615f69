"""float32 inputs that expose different arithmetic."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

SMALLEST_NORMAL = np.float32(2.0**-126)
SMALLEST_SUBNORMAL = np.float32(2.0**-149)
LARGEST = np.finfo(np.float32).max

SPECIAL = np.array(
    [0.0, -0.0, SMALLEST_SUBNORMAL, -SMALLEST_SUBNORMAL, SMALLEST_NORMAL, -SMALLEST_NORMAL,
     1e-40, -1e-40, 0.5, -0.5, 1.5, 2.5, 1.0, -1.0, 127.0, -127.0],
    np.float32,
)  # fmt: skip


def normal(rng: np.random.Generator, *shape: int) -> Float32:
    """Ordinary activations: standard normal."""
    return rng.standard_normal(shape, np.float32)


def subnormal(rng: np.random.Generator, *shape: int) -> Float32:
    """Nothing but numbers that flush-to-zero would lose."""
    return (rng.standard_normal(shape) * 2.0**-130).astype(np.float32)


def wide(rng: np.random.Generator, *shape: int, low: int = -149, high: int = 127) -> Float32:
    """Magnitudes spread evenly over powers of two in [low, high), with zeros of both signs."""
    exponent = rng.uniform(low, high, shape)
    values = (rng.choice([-1.0, 1.0], shape) * 2.0**exponent).astype(np.float32)
    special = SPECIAL[(np.abs(SPECIAL) < 2.0**high)]
    flat = values.reshape(-1)
    flat[::7] = rng.choice(special, flat[::7].size)
    return values


KINDS = {"normal": normal, "wide": wide, "subnormal": subnormal}
