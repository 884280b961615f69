"""Random weights that behave like trained ones: activations stay finite and of sensible size.

Scales are chosen so that vectors with root-mean-square (rms) 1 keep about that rms. A projection of
such a vector has rms about 1. Each of the 2·L blocks adds rms sqrt(1 / (2·L)) to the residual
stream, so the stream ends near rms 1. Embeddings have rms 3 / sqrt(hidden), so logits have a
standard deviation of about 3. Half of all gates are positive.

With `sparse_gates`, a constant is added to every embedding. The residual stream then has a
component along (1, 1, ..., 1), and gate rows are tilted against that direction, just enough for the
wanted share of positive gates.

With `peaked`, logits are distributed like those of the demo model, extrapolated to the vocabulary.
Measured on 1,206 positions of text that the demo model wrote itself, logits of its 4,096 tokens are
nearly normal with a standard deviation of 3.4, and the best is 3.84 deviations above the mean
(median; 5 % and 95 %: 3.1 and 5.4). At temperature 0.7 the entropy is 1.7 nats, and top_p = 0.95
keeps 11 tokens (median; 90 %: 51). The even columns of all embeddings have a constant added, so all
hidden states have it too, and a 32nd of the rows, the common tokens, have a little more of it:
among themselves common tokens have the logits of the demo model, and the other tokens are less
likely by as much as rare words are rarer than common ones. The final norm is negative in odd
columns, so that a token whose own row is in the hidden state is no likelier than the others.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..formats.safetensors_writer import TensorPlan
from .bits import to_bf16_bits
from .shapes import Form, tensor_shapes

__all__ = ["DType", "LinearClass", "random_plans"]

DType = Literal["BF16", "F16", "F32"]
LinearClass = Literal["autobitlinear", "bitlinear"]

_BLOCK = 1 << 22  # elements made at a time, so that memory stays at some tens of megabytes

# With a normal distribution of standard deviation 1, absmean quantisation gives a share of
# P(|w| > absmean / 2) = 0.69 non-zero weights. Packed weights are -1, 0 and +1 equally often.
_ABSMEAN = math.sqrt(2 / math.pi)
_MASTER_DENSITY = 2 * (1 - NormalDist().cdf(_ABSMEAN / 2))
_PACKED_DENSITY = 2 / 3

_DEVIATION = 3.0  # of logits
_PEAKED_DEVIATION = 3.4  # of the demo model
_COMMON = 32  # one token in so many is common, where logits are peaked


def random_plans(
    config: Mapping[str, Any],
    *,
    seed: int,
    form: Form,
    linear_class: LinearClass | None,
    dtype: DType,
    sparse_gates: float | None = None,
    ternary_embedding: bool = False,
    peaked: bool = False,
) -> list[TensorPlan]:
    """Plans for all tensors of a checkpoint. Each has a random stream of its own, so a tensor
    depends on the seed, its name and its shape, but not on other tensors."""
    weights = _RandomWeights(
        config, seed, form, linear_class, dtype, sparse_gates, ternary_embedding, peaked
    )
    return [weights.plan(name, shape) for name, shape in weights.shapes.items()]


class _RandomWeights:
    def __init__(
        self,
        config: Mapping[str, Any],
        seed: int,
        form: Form,
        linear_class: LinearClass | None,
        dtype: DType,
        sparse_gates: float | None,
        ternary_embedding: bool,
        peaked: bool,
    ) -> None:
        self.seed = seed
        self.packed = form == "packed"
        self.group = int(form.removeprefix("groups")) if form.startswith("groups") else 0
        self.ternary_embedding = ternary_embedding
        self.multiply = linear_class == "autobitlinear"
        self.dtype = dtype
        self.density = _MASTER_DENSITY if form == "master" else _PACKED_DENSITY
        self.sparse_gates = sparse_gates
        self.hidden: int = config["hidden_size"]
        self.layers: int = config["num_hidden_layers"]
        self.shapes = tensor_shapes(config, form)
        deviation = _PEAKED_DEVIATION if peaked else _DEVIATION
        self.embedding_rms = deviation / math.sqrt(self.hidden)
        self.embedding_mean = 0.0 if sparse_gates is None else 2 * self.embedding_rms
        vocabulary: int = config["vocab_size"]
        self.common = max(1, vocabulary // _COMMON) if peaked else 0
        self.even_mean = self.embedding_rms if peaked else 0.0
        self.common_mean = 0.0
        if peaked:
            # a common token has both constants in half of the columns, and so has the hidden state
            # that comes from it: c (e + c) hidden / 2 is the rarity
            rarity, half = _rarity(self.common, vocabulary), self.even_mean / 2
            self.common_mean = math.sqrt(half**2 + 2 * rarity / self.hidden) - half

    def plan(self, name: str, shape: tuple[int, ...]) -> TensorPlan:
        if name.endswith("weight_scale"):
            return TensorPlan(name, self.dtype, shape, lambda: [self._weight_scale(name)])
        if name.endswith(".bias"):
            return TensorPlan(name, self.dtype, shape, lambda: self._normal(name, shape, 0.0, 0.1))
        if name == "model.norm.weight" and self.common:
            return TensorPlan(name, self.dtype, shape, lambda: self._alternating(name, shape))
        if len(shape) == 1:
            return TensorPlan(name, self.dtype, shape, lambda: self._normal(name, shape, 1.0, 0.1))
        if self.ternary_embedding and name in ("model.embed_tokens.weight", "lm_head.weight"):
            return TensorPlan(
                name, self.dtype, shape, lambda: self._grouped(name, shape, self.embedding_rms)
            )
        if name == "model.embed_tokens.weight":
            return TensorPlan(
                name, self.dtype, shape, lambda: self._tokens(name, shape, self.embedding_mean)
            )
        if name == "lm_head.weight":
            return TensorPlan(name, self.dtype, shape, lambda: self._tokens(name, shape, 0.0))
        if self.packed:
            return TensorPlan(name, "U8", shape, lambda: self._packed(name, shape))
        if self.group:
            rms = self._absmean(name, shape[1])
            return TensorPlan(name, self.dtype, shape, lambda: self._grouped(name, shape, rms))
        return TensorPlan(name, self.dtype, shape, lambda: self._master(name, shape))

    def _generator(self, name: str) -> np.random.Generator:
        seeds = np.random.SeedSequence([self.seed, zlib.crc32(name.encode())])
        return np.random.Generator(np.random.PCG64(seeds))

    def _encode(self, values: NDArray[np.float32]) -> NDArray[Any]:
        if self.dtype == "BF16":
            return to_bf16_bits(values)
        return values.astype(np.float16) if self.dtype == "F16" else values

    def _normal(
        self, name: str, shape: tuple[int, ...], mean: float, deviation: float
    ) -> Iterator[NDArray[Any]]:
        generator = self._generator(name)
        for count in _block_sizes(math.prod(shape)):
            values = generator.standard_normal(count, np.float32)
            values *= np.float32(deviation)
            values += np.float32(mean)
            yield self._encode(values)

    def _tokens(self, name: str, shape: tuple[int, ...], mean: float) -> Iterator[NDArray[Any]]:
        """One row for each token, the common ones first."""
        generator = self._generator(name)
        left = self.common * shape[1]  # numbers of common tokens
        for count in _block_sizes(math.prod(shape)):
            values = generator.standard_normal(count, np.float32)
            values *= np.float32(self.embedding_rms)
            values += np.float32(mean)
            if self.common:
                values[::2] += np.float32(self.even_mean)
                values[:left:2] += np.float32(self.common_mean)
            left = max(0, left - count)
            yield self._encode(values)

    def _alternating(self, name: str, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        values = 1 + np.float32(0.1) * self._generator(name).standard_normal(shape, np.float32)
        values[1::2] *= -1
        yield self._encode(values)

    def _absmean(self, name: str, columns: int) -> float:
        """The scale of a projection, varied by ±25 % so that no two are equal by chance."""
        jitter = self._generator(name + "_scale").uniform(0.8, 1.25)
        writes_residual = "o_proj" in name or "down_proj" in name
        gain = math.sqrt(1 / (2 * self.layers)) if writes_residual else 1.0
        return float(gain * jitter / math.sqrt(columns * self.density))

    def _weight_scale(self, name: str) -> NDArray[Any]:
        projection = name.removesuffix("_scale")
        absmean = self._absmean(projection, self.shapes[projection][1])
        value = absmean if self.multiply else 1 / absmean
        return self._encode(np.array([value], np.float32))

    def _tilt(self, name: str) -> float:
        """P(+1) - P(-1) of a weight: 0, except for the gates of a sparse model.

        The input of a gate has rms 1 and mean m, and the gate has a standard deviation of
        sqrt(density·hidden). So it is positive with probability Phi(tilt·m·sqrt(hidden / density)).
        """
        if self.sparse_gates is None or "gate_proj" not in name:
            return 0.0
        layer = int(name.split(".")[2])
        mean = self.embedding_mean / math.sqrt(self._residual_energy(layer))
        wanted = NormalDist().inv_cdf(self.sparse_gates)
        tilt = wanted * math.sqrt(self.density / self.hidden) / mean
        return max(-self.density, min(self.density, tilt))

    def _residual_energy(self, layer: int) -> float:
        """Mean square of the residual stream at the input of the feed-forward part of `layer`: that
        of the embedding and of all earlier blocks, each a projection of a vector with rms 1."""
        blocks = [f"model.layers.{i}.self_attn.o_proj.weight" for i in range(layer + 1)]
        blocks += [f"model.layers.{i}.mlp.down_proj.weight" for i in range(layer)]
        energy = self.embedding_mean**2 + self.embedding_rms**2
        for block in blocks:
            columns = self.shapes[block][1]
            energy += self._absmean(block, columns) ** 2 * columns * self.density
        return energy

    def _packed(self, name: str, shape: tuple[int, ...]) -> Iterator[NDArray[np.uint8]]:
        # Four codes at once: a random 16-bit number chooses one of the 81 valid bytes.
        table = _byte_table(self.density, self._tilt(name))
        generator = self._generator(name)
        for count in _block_sizes(math.prod(shape)):
            yield table[generator.integers(0, 1 << 16, count, np.uint16)]

    def _grouped(self, name: str, shape: tuple[int, ...], scale: float) -> Iterator[NDArray[Any]]:
        """Weights of -s, 0 and s, where s varies by a quarter from group to group and has no more
        bits than bfloat16, so that every dtype holds it."""
        generator = self._generator(name)
        rows, columns = shape
        groups = -(-columns // self.group)
        step = max(1, _BLOCK // columns)
        for begin in range(0, rows, step):
            count = min(step, rows - begin)
            rough = generator.uniform(0.8, 1.25, (count, groups)) * scale
            bits = to_bf16_bits(rough.astype(np.float32)).astype(np.uint32) << np.uint32(16)
            scales = np.repeat(bits.view(np.float32), self.group, axis=1)[:, :columns]
            t = generator.integers(-1, 2, (count, columns), np.int8)
            yield self._encode(scales * t).reshape(-1)

    def _master(self, name: str, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        deviation = self._absmean(name, shape[1]) / _ABSMEAN
        # Moving the mean by x deviations changes P(+1) - P(-1) by x times twice the density of the
        # normal distribution at the border.
        border = 2 * NormalDist().pdf(_ABSMEAN / 2)
        return self._normal(name, shape, deviation * self._tilt(name) / border, deviation)


def _rarity(common: int, vocabulary: int) -> float:
    """The logarithm of how many times as often as the others the common tokens occur on average.

    Frequencies fall as 1 / rank among common words and as 1 / rank^2 among rare ones (Ferrer i
    Cancho and Sole 2001, Two regimes in the frequency of words).
    """
    often = math.fsum(1 / rank for rank in range(1, common + 1))
    rarely = math.fsum(common / rank**2 for rank in range(common + 1, vocabulary + 1))
    return math.log(often / common * (vocabulary - common) / rarely)


def _byte_table(density: float, tilt: float) -> NDArray[np.uint8]:
    """65,536 packed bytes, with each combination of four codes as often as it should occur."""
    probabilities = ((density - tilt) / 2, 1 - density, (density + tilt) / 2)
    combinations = list(itertools.product(range(3), repeat=4))
    exact = np.array([math.prod(probabilities[code] for code in c) for c in combinations])
    counts = np.floor(exact * (1 << 16)).astype(np.int64)
    missing = (1 << 16) - int(counts.sum())
    most_cut = np.argsort(counts - exact * (1 << 16), kind="stable")
    counts[most_cut[:missing]] += 1
    packed = [c[0] | c[1] << 2 | c[2] << 4 | c[3] << 6 for c in combinations]
    return np.repeat(np.array(packed, np.uint8), counts)


def _block_sizes(total: int) -> Iterator[int]:
    for begin in range(0, total, _BLOCK):
        yield min(_BLOCK, total - begin)
