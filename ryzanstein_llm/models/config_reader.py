"""Typed access to what config.json says. What is misspelt or asks for another graph is an error."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import FormatError, UnsupportedModelError
from ..formats import Checkpoint

__all__ = ["ConfigReader"]

ALIKE = 0.8
"""An unknown key this similar (difflib's ratio) to a missing one is taken for a typing error."""

# Read elsewhere (ids of special tokens) or by no decoder, but similar to names that are read.
KNOWN_ELSEWHERE = ("eos_token_id", "bos_token_id", "pad_token_id", "model_type")
HARMLESS = frozenset(
    {
        "attention_dropout", "eod_token_id", "im_end_id", "im_start_id", "sep_token_id",
        "text_end_id", "text_start_id", "unk_token_id", "dtype", "torch_dtype", "weight_bits",
        "input_bits", "hidden_dropout", "org_vocab_size", "cla_share_factor",
    }
)  # fmt: skip

# Keys with which other families change what a graph computes -> values that change nothing. A file
# may have them although its model_type names a family that does not read them.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    # factors: Granite, Cohere, Gemma
    "embedding_multiplier": (1,),
    "residual_multiplier": (1,),
    "attention_multiplier": (),
    "logits_scaling": (1,),
    "logit_scale": (1,),
    "query_pre_attn_scalar": (),
    "attn_logit_softcapping": (0,),
    "final_logit_softcapping": (0,),
    "clip_qkv": (0,),
    # heads and positions: StableLM, Phi, GPT-NeoX, SmolLM3, Llama 4, Qwen3-Next
    "partial_rotary_factor": (1,),
    "rotary_pct": (1,),
    "no_rope_layers": ([],),
    "alibi": (False,),
    "use_parallel_residual": (False,),
    "qk_layernorm": (False,),
    "attn_output_gate": (False,),
    # experts: Mixtral, Qwen, DeepSeek
    "num_experts": (0, 1),
    "num_local_experts": (0, 1),
    "n_routed_experts": (0, 1),
    "num_nextn_predict_layers": (0,),
}


class ConfigReader:
    """Typed access to config.json or to an object in it. Errors name the file, the key and the
    value.

    Parameters
    ----------
    checkpoint : Checkpoint
    values : mapping, optional
        A nested object. None: config.json itself.
    within : str
        The dotted name of that object, for messages.
    """

    def __init__(
        self, checkpoint: Checkpoint, values: Mapping[str, Any] | None = None, within: str = ""
    ) -> None:
        self.checkpoint = checkpoint
        self._values = checkpoint.config if values is None else values
        self._within = within
        self._asked: set[str] = set()
        self._sections: dict[str, ConfigReader] = {}

    def __contains__(self, key: str) -> bool:
        """Whether the key is there and not null."""
        self._asked.add(key)
        return self._values.get(key) is not None

    def __bool__(self) -> bool:
        """Whether the object holds anything."""
        return bool(self._values)

    def expect(self, *keys: str) -> None:
        """Count keys as asked for, so that others may be taken for misspellings of them."""
        self._asked.update(keys)

    @property
    def keys(self) -> Collection[str]:
        """All keys, also those that nothing reads."""
        return self._values.keys()

    def value(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default if it is absent or null."""
        return self._values[key] if key in self else default

    def wrong(self, key: str, value: Any, expected: str) -> FormatError:
        """The exception for a wrong value."""
        return FormatError(f"{self._place(key)} must be {expected}, not {value!r}")

    def unsupported(self, key: str, value: Any, why: str) -> UnsupportedModelError:
        """The exception for a value that makes sense, but that this version cannot run."""
        return UnsupportedModelError(f"{self._place(key)} {value!r}: {why}")

    def _place(self, key: str) -> str:
        name = f"{self._within}.{key}" if self._within else key
        return f"{self.checkpoint.path}: config.json: {name}"

    def integer(
        self, key: str, default: int | None = None, *, low: int = 1, high: int = 1 << 24
    ) -> int:
        """An integer in low..high. The key is required if there is no default."""
        value = self.value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(key, value, f"an integer in {low}..{high}")
        return value

    def positive(
        self, key: str, default: float | None = None, *, low: float = 0.0, high: float = 1e30
    ) -> float:
        """A number above 0, in low..high. The key is required if there is no default."""
        value = self.value(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e30:
            raise self.wrong(key, value, "a positive number")
        if not low <= value <= high:
            raise self.wrong(key, value, f"a number in {low:g}..{high:g}")
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self.value(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, value, "true or false")
        return value

    def section(self, key: str) -> ConfigReader:
        """A nested object; empty if it is absent or null."""
        if key not in self._sections:
            value = self.value(key, {})
            if not isinstance(value, dict):
                raise self.wrong(key, value, "an object")
            within = f"{self._within}.{key}" if self._within else key
            self._sections[key] = ConfigReader(self.checkpoint, value, within)
        return self._sections[key]

    def refuse_unread(self) -> None:
        """Refuse keys that nothing has read and that may change results: those of other graphs
        (`NEUTRAL`), and unknown ones that look like a key which was asked for and is missing. Call
        it when everything has been read.

        Raises
        ------
        UnsupportedModelError
            A key of another graph. The message names the key and its value.
        FormatError
            A key that looks misspelt. The message names it and the one that was probably meant.
        """
        known = self._asked | ({*KNOWN_ELSEWHERE} if not self._within else set())
        missing = {key.lower(): key for key in known if self._values.get(key) is None}
        for key, value in self._values.items():
            if key in known or key in HARMLESS:
                continue
            if key in NEUTRAL:
                if value is not None and value not in NEUTRAL[key]:
                    raise self.unsupported(key, value, "this family computes nothing of the kind")
                continue
            close = difflib.get_close_matches(str(key).lower(), missing, 1, ALIKE)
            if close:
                raise FormatError(
                    f"{self._place(str(key))}: there is no such key; did you mean "
                    f"{missing[close[0]]!r}?"
                )
        for section in self._sections.values():
            section.refuse_unread()
