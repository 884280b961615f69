"""Which tokens stay: by rank, by probability, by how typical they are.

Bits must not depend on the CPU: exp and log are the library's own, sums run in a stated order, and
NumPy only indexes, sorts integers and does single IEEE operations.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..kernels.elementwise import cumulative_sum, log

__all__ = ["descending", "keep_top_p", "keep_typical"]

Float32 = NDArray[np.float32]


def descending(logits: Float32, top_k: int) -> NDArray[np.int64]:
    """Token ids by falling logit, equal logits by rising id; only the first top_k unless that is 0.

    Sorts unique integers (order-preserving bits of the float, then the id), so the result does
    not depend on which sort NumPy has for this CPU. NaN comes first.
    """
    bits = (logits + np.float32(0)).view(np.uint32)  # + 0: -0 and +0 are equal
    rising = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    keys = (~rising).astype(np.uint64) << np.uint64(32) | np.arange(len(logits), dtype=np.uint64)
    if 0 < top_k < len(keys):
        keys = np.partition(keys, top_k - 1)[:top_k]
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def keep_top_p(
    ids: NDArray[np.int64], weights: Float32, top_p: float
) -> tuple[NDArray[np.int64], Float32]:
    if top_p == 1:
        return ids, weights
    sums = cumulative_sum(weights)
    count = int(np.searchsorted(sums, top_p * sums[-1], side="left")) + 1
    return ids[:count], weights[:count]


def keep_typical(
    ids: NDArray[np.int64], weights: Float32, typical_p: float
) -> tuple[NDArray[np.int64], Float32]:
    positive = weights > 0  # a weight that underflowed has no logarithm, and no chance
    ids, weights = ids[positive], weights[positive]
    probabilities = weights.astype(np.float64) / cumulative_sum(weights)[-1]
    surprise = -log(probabilities)
    entropy = cumulative_sum((probabilities * surprise).astype(np.float32))[-1]
    order = np.argsort(np.abs(surprise - entropy), kind="stable")
    sums = cumulative_sum(weights[order])
    count = int(np.searchsorted(sums, typical_p * sums[-1], side="left")) + 1
    kept = np.sort(order[:count])
    return ids[kept], weights[kept]
