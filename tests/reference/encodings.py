"""Writers of the published encodings of ternary matrices, as their definitions read.

`t` is int8 `(rows, columns)` of −1, 0, 1, and `scales` float64 `(rows, columns / group)`. The
result is the bytes of a matrix as uint8. Codes are `t + 1`. What a reader makes of such bytes must
be `t` and `scales` again. Published test vectors check these writers themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Int8 = npt.NDArray[np.int8]
UInt8 = npt.NDArray[np.uint8]
Scales = npt.NDArray[np.float64]


def _pairs(codes: npt.NDArray[np.int64], shifts: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Codes `(..., 4, bytes)` in bytes, the second last axis at these shifts."""
    return sum(codes[..., i, :] << shift for i, shift in enumerate(shifts))  # type: ignore[return-value]


def _scaled_up(number: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A number of five ternary digits as the byte `ceil(number * 256 / 243)`."""
    return -(-number * 256 // 243)


def _digits(codes: npt.NDArray[np.int64], weights: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Codes `(..., digits, bytes)` in bytes of ternary digits with these weights."""
    return _scaled_up(sum(codes[..., i, :] * w for i, w in enumerate(weights)))  # type: ignore[arg-type]


def _blocks(t: Int8, columns: int) -> npt.NDArray[np.int64]:
    """Codes by row, block, column of the block."""
    return (t.astype(np.int64) + 1).reshape(t.shape[0], -1, columns)


def _halves(scales: Scales) -> UInt8:
    """float16 as bytes `(rows, groups, 2)`."""
    return scales.astype("<f2").view(np.uint8).reshape(*scales.shape, 2)


def _joined(*parts: npt.NDArray[np.integer]) -> UInt8:
    return np.concatenate([part.astype(np.uint8) for part in parts], axis=2).reshape(-1)


def tq1_0(t: Int8, scales: Scales) -> UInt8:
    """256 → 54: five digits a byte for 0..159 (32 bytes) and 160..239 (16), four for 240..255."""
    codes = _blocks(t, 256)
    by = codes.shape[:2]
    five = (81, 27, 9, 3, 1)
    return _joined(
        _digits(codes[..., :160].reshape(*by, 5, 32), five),
        _digits(codes[..., 160:240].reshape(*by, 5, 16), five),
        _digits(codes[..., 240:].reshape(*by, 4, 4), five[:4]),
        _halves(scales),
    )


def tq2_0(t: Int8, scales: Scales) -> UInt8:
    """256 → 66: element 128g + 32l + m in bits 2l of byte 32g + m."""
    codes = _blocks(t, 256).reshape(t.shape[0], -1, 2, 4, 32)
    return _joined(
        _pairs(codes, (0, 2, 4, 6)).reshape(t.shape[0], -1, 64),
        _halves(scales),
    )


def _q2_0(t: Int8, scales: Scales, group: int) -> UInt8:
    codes = _blocks(t, group).reshape(t.shape[0], -1, group // 4, 4).swapaxes(2, 3)
    return _joined(_halves(scales), _pairs(codes, (0, 2, 4, 6)))


def q2_0(t: Int8, scales: Scales) -> UInt8:
    """64 → 18, the scale first: element j in bits 2(j % 4) of byte j / 4."""
    return _q2_0(t, scales, 64)


def pq2_0(t: Int8, scales: Scales) -> UInt8:
    """128 → 34, otherwise as `q2_0`."""
    return _q2_0(t, scales, 128)


def ptq1_0(t: Int8, scales: Scales) -> UInt8:
    """128 → 28: five digits a byte for 0..79 (16 bytes) and 80..119 (8), four for 120..127."""
    codes = _blocks(t, 128)
    by = codes.shape[:2]
    five = (81, 27, 9, 3, 1)
    return _joined(
        _digits(codes[..., :80].reshape(*by, 5, 16), five),
        _digits(codes[..., 80:120].reshape(*by, 5, 8), five),
        _digits(codes[..., 120:].reshape(*by, 4, 2), five[:4]),
        _halves(scales),
    )


def i2_s_codes(t: Int8) -> UInt8:
    """128 → 32: elements p, 32 + p, 64 + p, 96 + p from the highest bits of byte p down."""
    codes = _blocks(t, 128).reshape(t.shape[0], -1, 4, 32)
    return _pairs(codes, (6, 4, 2, 0)).astype(np.uint8).reshape(-1)


def i2_s_arm_codes(t: Int8) -> UInt8:
    """64 → 16: elements p, 16 + p, 32 + p, 48 + p from the highest bits of byte p down."""
    codes = _blocks(t, 64).reshape(t.shape[0], -1, 4, 16)
    return _pairs(codes, (6, 4, 2, 0)).astype(np.uint8).reshape(-1)


def _with_tensor_scale(codes: UInt8, scales: Scales) -> UInt8:
    """The codes of all rows, then one float32 scale and 28 bytes of padding."""
    scale = np.zeros(8, "<f4")
    scale[0] = scales[0, 0]
    return np.concatenate([codes, scale.view(np.uint8)])


def i2_s(t: Int8, scales: Scales) -> UInt8:
    """As a program on x86 writes it."""
    return _with_tensor_scale(i2_s_codes(t), scales)


def i2_s_arm(t: Int8, scales: Scales) -> UInt8:
    """As a program on ARM writes it."""
    return _with_tensor_scale(i2_s_arm_codes(t), scales)


def iq1_bn_codes(t: Int8) -> UInt8:
    """64 → 13, least significant first: 16i + 5k + j in byte 3i + k, all 16i + 15 in byte 12."""
    codes = _blocks(t, 64).reshape(t.shape[0], -1, 4, 16)
    by = codes.shape[:2]
    fives = codes[..., :15].reshape(*by, 12, 5) @ 3 ** np.arange(5)
    last = codes[..., 15] @ 3 ** np.arange(4)
    return _joined(_scaled_up(fives), _scaled_up(last)[..., None])


def iq1_bn(t: Int8, scales: Scales) -> UInt8:
    """Of each row a float16 scale, then its blocks."""
    codes = iq1_bn_codes(t).reshape(t.shape[0], -1)
    return np.concatenate([_halves(scales)[:, 0], codes], axis=1).reshape(-1)


def iq2_bn_codes(t: Int8) -> UInt8:
    """64 → 16: element 16l + j in bits 2l of byte j."""
    codes = _blocks(t, 64).reshape(t.shape[0], -1, 4, 16)
    return _pairs(codes, (0, 2, 4, 6)).astype(np.uint8).reshape(-1)


def iq2_bn(t: Int8, scales: Scales) -> UInt8:
    """Of each row a float32 scale, then its blocks."""
    codes = iq2_bn_codes(t).reshape(t.shape[0], -1)
    return np.concatenate([scales.astype("<f4").view(np.uint8), codes], axis=1).reshape(-1)


def mlx2(t: Int8) -> npt.NDArray[np.uint32]:
    """Words `(rows, columns / 16)`: element c in bits 2(c % 16) of word c / 16."""
    codes = _blocks(t, 16).astype(np.uint32)
    return np.bitwise_or.reduce(codes << (2 * np.arange(16, dtype=np.uint32)), axis=2)


def stq1_0(slots: npt.NDArray[np.int64], signs: npt.NDArray[np.int64], scales: Scales) -> UInt8:
    """256 → 42 from slots `(rows, groups of four)` in 0..15 and signs 0 or 1."""
    by = (slots.shape[0], -1)
    low_first = slots.reshape(*by, 32, 2)
    bits = signs.reshape(*by, 8, 8)
    return _joined(
        low_first[..., 0] + 16 * low_first[..., 1], bits @ 2 ** np.arange(8), _halves(scales)
    )


def stq1_0_values(slots: npt.NDArray[np.int64], signs: npt.NDArray[np.int64]) -> Int8:
    """`t` of such slots and signs: weight p of group g is at (g // 16) * 64 + g % 16 + 16p."""
    rows, groups = slots.shape
    t = np.zeros((rows, 4 * groups), np.int8)
    for row in range(rows):
        for g in range(groups):
            slot = int(slots[row, g])
            lanes = [1, -1 if slot & 1 else 1, -1 if slot & 2 else 1]
            lanes.insert(slot >> 2, 0)
            for p in range(4):
                t[row, g // 16 * 64 + g % 16 + 16 * p] = -lanes[p] if signs[row, g] else lanes[p]
    return t


def interleaved(rows: npt.NDArray[np.int8], head_dim: int) -> Int8:
    """Rows as llama.cpp stores q and k of architecture llama: halves of each head interleaved."""
    heads = rows.reshape(-1, 2, head_dim // 2, rows.shape[1])
    return heads.swapaxes(1, 2).reshape(rows.shape).copy()


# Encodings whose bytes hold everything: how many columns have one scale (0: all of a row), writer.
WRITERS: dict[str, tuple[int, Callable[[Int8, Scales], UInt8]]] = {
    "I2_S": (0, i2_s),
    "I2_S_ARM": (0, i2_s_arm),
    "TQ1_0": (256, tq1_0),
    "TQ2_0": (256, tq2_0),
    "Q2_0": (64, q2_0),
    "PQ2_0": (128, pq2_0),
    "PTQ1_0": (128, ptq1_0),
    "IQ1_BN": (0, iq1_bn),
    "IQ2_BN": (0, iq2_bn),
}
