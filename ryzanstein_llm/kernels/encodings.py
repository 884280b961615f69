"""The encodings of ternary matrices in checkpoints: bytes, scales, and what can be wrong.

include/ryzanstein/sources has a file for each encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

__all__ = ["ENCODINGS", "Encoding", "Problem"]


class Problem(IntEnum):
    """What is wrong with the data of a matrix: bits of enum rz_source_problem in source.h."""

    CODE = 1
    """A two-bit code is 3. In Q2_0 and PQ2_0 that is +2: the matrix is 2-bit, not ternary."""
    FLOATS = 2
    """A float is neither 0 nor plus or minus the largest of its group."""
    SCALE = 4
    """A scale is negative, NaN or infinite."""
    HALF = 8
    """A scale is no fp16 number, so the matrix cannot be kept in groups."""
    BIAS = 16
    """A bias is not minus its scale."""

    @classmethod
    def first(cls, bits: int) -> Problem | None:
        """The first of the problems whose bits are set."""
        return next((problem for problem in cls if problem & bits), None)


@dataclass(frozen=True)
class Encoding:
    """How the rows of a matrix are stored. `TernarySource` knows the sizes of encodings that have
    no blocks.

    Attributes
    ----------
    number : int
        Of enum rz_encoding in include/ryzanstein/sources/source.h.
    block : int
        Columns of a block, which is what the columns of a matrix must be a multiple of.
    block_bytes : int
        Bytes of a block; 0 if there are no blocks.
    group : int
        Columns that share a scale; 0 if all of a row do.
    row_header, trailer : int
        Bytes before the blocks of each row, and after the last row.
    """

    number: int
    block: int = 1
    block_bytes: int = 0
    group: int = 0
    row_header: int = 0
    trailer: int = 0

    def row_bytes(self, columns: int) -> int:
        """Bytes from a row to the next, of `columns` that are a multiple of `block`."""
        return self.row_header + columns // self.block * self.block_bytes

    def nbytes(self, rows: int, columns: int) -> int:
        """Bytes of a matrix whose columns are a multiple of `block`."""
        return rows * self.row_bytes(columns) + self.trailer


ENCODINGS = {
    "hf_packed": Encoding(0),
    "masters": Encoding(1),
    "ternary_floats": Encoding(2),
    "I2_S": Encoding(3, block=128, block_bytes=32, trailer=32),
    "I2_S_ARM": Encoding(12, block=64, block_bytes=16, trailer=32),
    "TQ1_0": Encoding(4, block=256, block_bytes=54, group=256),
    "TQ2_0": Encoding(5, block=256, block_bytes=66, group=256),
    "Q2_0": Encoding(6, block=64, block_bytes=18, group=64),
    "PQ2_0": Encoding(6, block=128, block_bytes=34, group=128),
    "PTQ1_0": Encoding(7, block=128, block_bytes=28, group=128),
    "MLX2": Encoding(8, block=64, block_bytes=16),
    "STQ1_0": Encoding(9, block=256, block_bytes=42, group=256),
    "IQ1_BN": Encoding(10, block=64, block_bytes=13, row_header=2),
    "IQ2_BN": Encoding(11, block=64, block_bytes=16, row_header=4),
}
