"""The graph of `BitNetForCausalLM`, with the tensor names of `transformers`.

Its residual stream, norms, relu² and quantisation are in float32; under autocast the matrix
products and attention are in bfloat16.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .settings import Shape
from .ternary import Projection, projection_input

__all__ = ["BitNet", "build", "is_projection"]

INITIAL_DEVIATION = 0.02


def is_projection(name: str) -> bool:
    """Whether a tensor of this name is a matrix that becomes ternary."""
    return name.endswith("_proj.weight")


class Norm(nn.Module):
    """RMSNorm."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    def __init__(self, shape: Shape, ternary: bool) -> None:
        super().__init__()
        self.shape, self.ternary = shape, ternary
        q_width, kv_width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        self.q_proj = Projection(shape.hidden, q_width, ternary)
        self.k_proj = Projection(shape.hidden, kv_width, ternary)
        self.v_proj = Projection(shape.hidden, kv_width, ternary)
        self.o_proj = Projection(q_width, shape.hidden, ternary)
        self.attn_sub_norm = Norm(q_width, shape.norm_eps)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        rows, length, _ = x.shape
        numbers, scale = projection_input(x, self.ternary)

        def heads(projected: Tensor, count: int) -> Tensor:
            return projected.view(rows, length, count, self.shape.head_dim).transpose(1, 2)

        q = heads(self.q_proj(numbers, scale), self.shape.heads)
        k = heads(self.k_proj(numbers, scale), self.shape.kv_heads)
        v = heads(self.v_proj(numbers, scale), self.shape.kv_heads)
        q, k = rotate(q, cosines, sines), rotate(k, cosines, sines)
        shared = self.shape.heads // self.shape.kv_heads
        k, v = (t.repeat_interleave(shared, dim=1) for t in (k, v))
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        joined = self.attn_sub_norm(attended.transpose(1, 2).reshape(rows, length, -1))
        added: Tensor = self.o_proj(*projection_input(joined, self.ternary))
        return added


class FeedForward(nn.Module):
    def __init__(self, shape: Shape, ternary: bool) -> None:
        super().__init__()
        self.ternary = ternary
        self.gate_proj = Projection(shape.hidden, shape.inner, ternary)
        self.up_proj = Projection(shape.hidden, shape.inner, ternary)
        self.down_proj = Projection(shape.inner, shape.hidden, ternary)
        self.ffn_sub_norm = Norm(shape.inner, shape.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        numbers, scale = projection_input(x, self.ternary)
        gated = functional.relu(self.gate_proj(numbers, scale)).square()
        inner = self.ffn_sub_norm(gated * self.up_proj(numbers, scale))
        added: Tensor = self.down_proj(*projection_input(inner, self.ternary))
        return added


class Layer(nn.Module):
    def __init__(self, shape: Shape, ternary: bool, dropout: float) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden, shape.norm_eps)
        self.self_attn = Attention(shape, ternary)
        self.post_attention_layernorm = Norm(shape.hidden, shape.norm_eps)
        self.mlp = FeedForward(shape, ternary)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), cosines, sines))
        x = x + self.dropout(self.mlp(self.post_attention_layernorm(x)))
        return x


class Decoder(nn.Module):
    def __init__(self, shape: Shape, ternary: bool, dropout: float) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape, ternary, dropout) for _ in range(shape.layers))
        self.norm = Norm(shape.hidden, shape.norm_eps)


class BitNet(nn.Module):
    """`forward(ids)`: (rows, length) token ids, length at most the context, to logits
    (rows, length, vocabulary). The output head is the embedding."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, shape: Shape, ternary: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape, self.ternary = shape, ternary
        self.model = Decoder(shape, ternary, dropout)
        self.dropout = nn.Dropout(dropout)
        # buffers that are not saved: derived from the shape
        cosines, sines = rotary_tables(shape)
        self.register_buffer("cosines", cosines, persistent=False)
        self.register_buffer("sines", sines, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        cosines, sines = self.cosines[: ids.shape[1]], self.sines[: ids.shape[1]]
        x = self.dropout(self.model.embed_tokens(ids))
        for layer in self.model.layers:
            x = layer(x, cosines, sines)
        return functional.linear(self.model.norm(x), self.model.embed_tokens.weight)


def rotary_tables(shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (context, head_dim), of the two halves of a head alike."""
    exponents = torch.arange(0, shape.head_dim, 2, dtype=torch.float32) / shape.head_dim
    angles = torch.outer(
        torch.arange(shape.context, dtype=torch.float32), shape.rope_theta**-exponents
    )
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """RoPE of (rows, heads, length, head_dim), whose halves are the two parts of each pair."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat((-second, first), dim=-1) * sines


def build(shape: Shape, ternary: bool, dropout: float, seed: int) -> BitNet:
    """A model with random weights, the same for the same seed on every device.

    What a block adds to the residual stream begins smaller the more blocks there are.
    """
    model = BitNet(shape, ternary, dropout)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            last = name.endswith(("o_proj.weight", "down_proj.weight"))
            deviation = INITIAL_DEVIATION / (math.sqrt(2 * shape.layers) if last else 1)
            nn.init.normal_(parameter, std=deviation, generator=generator)
    return model
