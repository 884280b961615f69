"""The element types of GGUF tensors: names, and how many bytes their blocks take.

Numbers up to 43 are those of ggml (ggml.h), but ids 36 to 39 are also used by microsoft/BitNet,
134, 135 and 335 are ik_llama.cpp's, and 142 and 143 are PrismML's. Some ids mean several layouts;
then the size of the data tells which.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["TYPES", "BlockType", "candidates", "settle", "type_named"]


@dataclass(frozen=True)
class BlockType:
    """A way to store elements.

    Attributes
    ----------
    name : str
        The dtype that a tensor of this type gets.
    elements, nbytes : int
        A block of so many neighbouring elements of a row takes so many bytes. `nbytes` is 0 if
        the size does not follow from the shape.
    row_bytes, tensor_bytes : int
        Bytes besides the blocks, for each row and for the tensor.
    flat : bool
        Blocks run over the whole tensor, so only the number of all elements must fit.
    """

    name: str
    elements: int
    nbytes: int
    row_bytes: int = 0
    tensor_bytes: int = 0
    flat: bool = False

    def size(self, shape: Sequence[int]) -> int | None:
        """Bytes of a tensor whose neighbouring elements are along the last dimension. None if its
        rows are not whole blocks."""
        columns = shape[-1] if shape else 1
        count = math.prod(shape)
        if (count if self.flat else columns) % self.elements:
            return None
        blocks = count // self.elements
        return blocks * self.nbytes + count // columns * self.row_bytes + self.tensor_bytes


# type id -> what it may mean
TYPES: Mapping[int, tuple[BlockType, ...]] = {
    0: (BlockType("F32", 1, 4),),
    1: (BlockType("F16", 1, 2),),
    2: (BlockType("Q4_0", 32, 18),),
    3: (BlockType("Q4_1", 32, 20),),
    6: (BlockType("Q5_0", 32, 22),),
    7: (BlockType("Q5_1", 32, 24),),
    8: (BlockType("Q8_0", 32, 34),),
    9: (BlockType("Q8_1", 32, 36),),
    10: (BlockType("Q2_K", 256, 84),),
    11: (BlockType("Q3_K", 256, 110),),
    12: (BlockType("Q4_K", 256, 144),),
    13: (BlockType("Q5_K", 256, 176),),
    14: (BlockType("Q6_K", 256, 210),),
    15: (BlockType("Q8_K", 256, 292),),
    16: (BlockType("IQ2_XXS", 256, 66),),
    17: (BlockType("IQ2_XS", 256, 74),),
    18: (BlockType("IQ3_XXS", 256, 98),),
    19: (BlockType("IQ1_S", 256, 50),),
    20: (BlockType("IQ4_NL", 32, 18),),
    21: (BlockType("IQ3_S", 256, 110),),
    22: (BlockType("IQ2_S", 256, 82),),
    23: (BlockType("IQ4_XS", 256, 136),),
    24: (BlockType("I8", 1, 1),),
    25: (BlockType("I16", 1, 2),),
    26: (BlockType("I32", 1, 4),),
    27: (BlockType("I64", 1, 8),),
    28: (BlockType("F64", 1, 8),),
    29: (BlockType("IQ1_M", 256, 56),),
    30: (BlockType("BF16", 1, 2),),
    34: (BlockType("TQ1_0", 256, 54),),
    35: (BlockType("TQ2_0", 256, 66),),
    36: (BlockType("I2_S", 4, 1, tensor_bytes=32, flat=True),),
    37: (BlockType("I8_S", 1, 0),),
    38: (BlockType("TL1", 1, 0),),
    39: (BlockType("MXFP4", 32, 17), BlockType("TL2", 1, 0)),
    40: (BlockType("NVFP4", 64, 36),),
    41: (BlockType("Q1_0", 128, 18),),
    42: (
        BlockType("Q2_0", 64, 18),
        BlockType("PQ2_0", 128, 34),  # before it became 142; CAT-Q still writes it
        BlockType("STQ1_0", 256, 42),  # before it became 43
    ),
    43: (BlockType("STQ1_0", 256, 42),),
    134: (BlockType("IQ1_BN", 64, 13, row_bytes=2),),
    135: (BlockType("IQ2_BN", 64, 16, row_bytes=4),),
    142: (BlockType("PQ2_0", 128, 34),),
    143: (BlockType("PTQ1_0", 128, 28),),
    335: (BlockType("IQ2_BN_R4", 64, 16, row_bytes=4),),
}


def candidates(type_id: int, architecture: str) -> tuple[BlockType, ...]:
    """What a type id may mean in a file of this `general.architecture`; () if nothing is known."""
    found = TYPES.get(type_id, ())
    if type_id == 39 and architecture.startswith("bitnet"):
        return found[1:]  # microsoft/BitNet writes no MXFP4
    return found


def type_named(name: str) -> tuple[int, BlockType]:
    """The type of a name, and the id that it has today. Raises KeyError if there is none."""
    for type_id, (first, *_) in TYPES.items():
        if first.name == name:
            return type_id, first
    raise KeyError(name)


def settle(
    tensors: Iterable[tuple[tuple[BlockType, ...], tuple[int, ...], int, int]],
) -> list[BlockType]:
    """The types that fit all tensors of one type id.

    A file comes from one program, so its tensors of one id have one layout. A small tensor may take
    as many bytes in two of them, when both are rounded up to the alignment.

    Parameters
    ----------
    tensors
        For each tensor: the candidates, its shape, and the least and the most bytes that it can
        take.
    """
    fitting: list[BlockType] | None = None
    for types, shape, least, most in tensors:
        here = [kind for kind in types if _fits(kind, shape, least, most)]
        fitting = here if fitting is None else [kind for kind in fitting if kind in here]
    fitting = fitting or []
    # Where the size tells nothing, a type whose size is known and right is likelier.
    return [kind for kind in fitting if kind.nbytes] or fitting


def _fits(kind: BlockType, shape: tuple[int, ...], least: int, most: int) -> bool:
    size = kind.size(shape)
    return size is not None and (kind.nbytes == 0 or least <= size <= most)
