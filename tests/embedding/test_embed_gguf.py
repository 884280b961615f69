"""An embedding model as GGUF gives the bits of its safetensors file, and says how it pools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_model import FAMILIES, write_embedding_gguf, write_embedding_model, write_json
from test_gguf_tokenizer import converted

from ryzanstein_llm import BitNetModel, Embedder
from ryzanstein_llm.errors import UnsupportedModelError

IDS = [[3, 77, 5, 9, 40, 41, 2, 8, 8, 19], [7], [5, 6, 200]]
# Rows of I2_S come in blocks of 128 columns.
SIZES = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64, "dtype": "float16"}
GEMMA = {  # GGUF has no key for these; a file means the values of Gemma 3
    "query_pre_attn_scalar": 64, "num_hidden_layers": 6, "sliding_window": 5,
    "layer_types": [*["sliding_attention"] * 5, "full_attention"],
}  # fmt: skip


def write_both(directory: Path, model_type: str = "qwen3", **metadata: Any) -> Path:
    changes = GEMMA if model_type == "gemma3_text" else {}
    write_embedding_model(directory, model_type, **SIZES, **changes)
    return write_embedding_gguf(directory, **metadata)


def bits(vectors: np.ndarray) -> np.ndarray:
    assert np.isfinite(vectors).all()
    return vectors.view(np.uint32)


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_the_same_bits_as_safetensors(model_type: str, pooling: str, tmp_path: Path) -> None:
    file = write_both(tmp_path, model_type)
    with BitNetModel(tmp_path / "model.safetensors", n_threads=1) as model:
        expected = bits(model.embed(IDS, pooling=pooling))
    with BitNetModel(file, n_threads=1) as model:
        assert (bits(model.embed(IDS, pooling=pooling)) == expected).all()
        with pytest.raises(UnsupportedModelError, match=r"use embed\(\)"):
            model.generate([3])


@pytest.mark.parametrize(
    ("kind", "pooling"), [(None, "mean"), (0, "mean"), (1, "mean"), (2, "cls"), (3, "last")]
)
def test_the_pooling_of_the_metadata(kind: int | None, pooling: str, tmp_path: Path) -> None:
    file = write_both(tmp_path, **({} if kind is None else {"pooling_type": kind}))
    with BitNetModel(file, n_threads=1) as model:
        assert (bits(model.embed(IDS)) == bits(model.embed(IDS, pooling=pooling))).all()


def test_a_reranker_is_refused(tmp_path: Path) -> None:
    file = write_both(tmp_path, pooling_type=4)
    with BitNetModel(file, n_threads=1) as model:
        with pytest.raises(UnsupportedModelError, match="'rank'"):
            model.embed(IDS)
        assert model.embed(IDS, pooling="last").shape == (3, 256)


def test_files_beside_it_count_first(tmp_path: Path) -> None:
    file = write_both(tmp_path, pooling_type=1)
    write_json(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_lasttoken": True})
    prompts = {"prompts": {"query": "query: "}}
    write_json(tmp_path / "config_sentence_transformers.json", prompts)
    with Embedder(file, n_threads=1) as embedder:
        assert embedder.prompts == prompts["prompts"]
        last = embedder.model.embed(IDS, pooling="last")
        assert (bits(embedder.encode(IDS)) == bits(last)).all()


@pytest.mark.parametrize("add_eos", [True, False])
def test_end_of_text_is_added_if_the_metadata_say_so(add_eos: bool, tmp_path: Path) -> None:
    """The vocabulary is that of the tokenizer.json beside the safetensors file."""
    write_both(tmp_path)
    tokenizer = converted(tmp_path / "tokenizer.json", pre="llama-bpe")
    ends = {"bos_token_id": 0, "eos_token_id": 1, "add_bos_token": True, "add_eos_token": add_eos}
    keys = {**tokenizer, **{f"tokenizer.ggml.{key}": value for key, value in ends.items()}}
    keys["tokenizer.ggml.token_type"] = np.array(tokenizer["tokenizer.ggml.token_type"], np.int32)
    file = write_embedding_gguf(tmp_path, extra=keys)
    with BitNetModel(tmp_path / "model.safetensors", n_threads=1) as model:
        ids = model.tokenize("a king")
        expected = bits(model.embed([[*ids, 1] if add_eos else ids]))
    with BitNetModel(file, n_threads=1) as model:
        assert (bits(model.embed(["a king"])) == expected).all()
