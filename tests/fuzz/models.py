"""The small models that targets read, and whose files they spoil."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ryzanstein_llm.testing import make_checkpoint

__all__ = ["CHATML", "replace_file", "small_model"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

CONFIG: dict[str, Any] = {
    "architectures": ["BitNetForCausalLM"],
    "model_type": "bitnet",
    "hidden_act": "relu2",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "num_hidden_layers": 1,
    "vocab_size": 288,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 256,
    "eos_token_id": 257,
}


def small_model(folder: Path, config: dict[str, Any] | None = None, **options: Any) -> Path:
    """A random model of one layer. `config` changes keys of CONFIG; None removes one."""
    keys = {**CONFIG, **(config or {})}
    keys = {key: value for key, value in keys.items() if value is not None}
    return make_checkpoint(folder, keys, **options)


def replace_file(path: Path, data: bytes) -> Path:
    """Write a file that nobody has mapped: never into the old one."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    return path
