"""Everything that decides what a run computes. Two runs with equal settings are the same run."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from ryzanstein_llm.errors import InvalidParameterError

from .words import count

__all__ = ["OPTIMIZERS", "SHAPES", "Budget", "Settings", "Shape"]


@dataclass(frozen=True)
class Shape:
    """Sizes of a model.

    Attributes
    ----------
    hidden, inner : int
        Width of the residual stream and of the feed-forward part.
    layers, heads, kv_heads : int
        `hidden` is a multiple of `heads`, with an even quotient, and `heads` of `kv_heads`.
    vocabulary : int
        Tokens wanted, 258 or more; a small corpus gives fewer.
    context : int
        Tokens, BOS included.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int = 512
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        for name in ("hidden", "inner", "layers", "heads", "kv_heads", "context"):
            if getattr(self, name) < 1:
                raise InvalidParameterError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.hidden % (2 * self.heads):
            raise InvalidParameterError(
                f"hidden must be an even multiple of heads {self.heads}, not {self.hidden}"
            )
        if self.heads % self.kv_heads:
            raise InvalidParameterError(
                f"kv_heads must divide heads {self.heads}, not {self.kv_heads}"
            )
        if self.vocabulary < 258:
            raise InvalidParameterError(
                f"vocabulary must be at least 258 (256 bytes, BOS and EOS), not {self.vocabulary}"
            )

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    def config(self, bos: int, eos: int) -> dict[str, Any]:
        """`config.json` without `quantization_config`, which depends on the form written."""
        return {
            "architectures": ["BitNetForCausalLM"],
            "model_type": "bitnet",
            "hidden_act": "relu2",
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "num_hidden_layers": self.layers,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": self.context,
            "rms_norm_eps": self.norm_eps,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "bos_token_id": bos,
            "eos_token_id": eos,
        }


SHAPES = {
    "tiny": Shape(64, 192, 2, 2, 1, 512, context=64),
    "6m": Shape(256, 768, 6, 4, 2, 4096),
    # about the largest whose packed files, tokenizer included, stay under 8 MB
    "19m": Shape(384, 1152, 10, 6, 3, 4096),
}


OPTIMIZERS = ("muon", "adamw")


@dataclass(frozen=True)
class Budget:
    """How long a run is: minutes of training, or optimiser steps; exactly one of them."""

    minutes: float | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise InvalidParameterError("a budget is either minutes or steps")
        amount = self.minutes if self.steps is None else self.steps
        if amount is None or not 0 < amount < math.inf:
            raise InvalidParameterError(f"a budget must be above 0, not {amount}")

    def __str__(self) -> str:
        if self.minutes is None:
            return count(self.steps or 0, "step")
        return f"{self.minutes:g} minute{'' if self.minutes == 1 else 's'}"

    def progress(self, steps: int, seconds: float) -> float:
        """Share of the run that is done, from 0 to 1."""
        if self.steps is not None:
            return min(1.0, steps / self.steps)
        assert self.minutes is not None
        return min(1.0, seconds / (60 * self.minutes))


@dataclass(frozen=True)
class Settings:
    """
    Attributes
    ----------
    shape : Shape
    budget : Budget
    origin : str or None
        Checkpoint of the masters of a ternary model of this shape, to begin with; None: random
        weights.
    ternary : bool
        False: float weights and activations, for a teacher; such a run writes no checkpoint.
    rows, accumulate : int
        Rows of `context` tokens in a micro-batch, and micro-batches in a step.
    first_parts : int
        Into how many rows each is cut in the first stage; a divisor of the context.
    optimizer : str
        "muon" or "adamw"; see optimizer.py.
    learning_rate, second_learning_rate : float
        Peaks of the two stages.
    weight_decay : float
        Of the first stage; the second has none.
    warmup : float
        Share of the run.
    clip : float
        Largest norm of the gradient.
    dropout : float
        Share of what a block adds to the residual stream that is left out.
    teachers : tuple of str
        Directories of earlier runs whose probabilities are learnt; their tokenizer is used.
    teacher_weight : float
        Share of the teachers in the loss; the text has the rest.
    validation : str or None
        File name that is held out; None: blocks of paragraphs from all files.
    seed : int
    """

    shape: Shape = SHAPES["6m"]
    budget: Budget = field(default_factory=lambda: Budget(minutes=60))
    origin: str | None = None
    ternary: bool = True
    rows: int = 16
    accumulate: int = 1
    first_parts: int = 2
    optimizer: str = "muon"
    learning_rate: float = 3e-3
    second_learning_rate: float = 2e-3
    weight_decay: float = 0.1
    warmup: float = 0.02
    clip: float = 1.0
    dropout: float = 0.0
    teachers: tuple[str, ...] = ()
    teacher_weight: float = 0.5
    validation: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("rows", 1, 1 << 16),
            ("accumulate", 1, 1 << 16),
            ("first_parts", 1, self.shape.context),
            ("learning_rate", 0, 1),
            ("second_learning_rate", 0, 1),
            ("weight_decay", 0, 10),
            ("warmup", 0, 1),
            ("dropout", 0, 0.9),
            ("teacher_weight", 0, 1),
            ("seed", 0, 1 << 63),
        ):
            if not low <= getattr(self, name) <= high:
                raise InvalidParameterError(
                    f"{name} must be in [{low}, {high}], not {getattr(self, name)}"
                )
        if self.shape.context % self.first_parts:
            raise InvalidParameterError(
                f"first_parts must divide the context {self.shape.context}, not {self.first_parts}"
            )
        if self.optimizer not in OPTIMIZERS:
            raise InvalidParameterError(
                f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {self.optimizer!r}"
            )
        if self.origin is not None and not self.ternary:
            raise InvalidParameterError(
                f"origin must be None for float weights, not {self.origin!r}: its are ternary"
            )
        if not self.clip > 0:
            raise InvalidParameterError(f"clip must be above 0, not {self.clip}")

    @property
    def tokens_per_step(self) -> int:
        return self.rows * self.accumulate * self.shape.context

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it."""
        return dataclasses.asdict(self) | {"teachers": list(self.teachers)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """What `to_dict` gave."""
        return cls(
            **values
            | {
                "shape": Shape(**values["shape"]),
                "budget": Budget(**values["budget"]),
                "teachers": tuple(values["teachers"]),
            }
        )
