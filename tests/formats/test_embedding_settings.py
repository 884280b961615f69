"""What the files of sentence-transformers and the metadata of GGUF say about embeddings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ryzanstein_llm.errors import FormatError
from ryzanstein_llm.formats.embedding_settings import EmbeddingSettings, read_embedding_settings


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def gguf(kind: Any) -> dict[str, Any]:
    return {"general.architecture": "qwen3", "qwen3.pooling_type": kind}


def test_a_checkpoint_may_say_nothing(tmp_path: Path) -> None:
    for metadata in (None, {}, {"general.architecture": "qwen3"}):
        assert read_embedding_settings(tmp_path, metadata) == EmbeddingSettings()


def test_all_of_it(tmp_path: Path) -> None:
    """As sentence-transformers 3 saves a model."""
    kinds = ("Transformer", "Pooling", "Normalize")
    write(tmp_path / "modules.json", [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "",
         "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ])  # fmt: skip
    write(tmp_path / "1_Pooling" / "config.json", {
        "word_embedding_dimension": 1024, "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False, "pooling_mode_weightedmean_tokens": False,
        "pooling_mode_lasttoken": True, "include_prompt": True,
    })  # fmt: skip
    prompts = {"query": "query: ", "document": ""}
    write(tmp_path / "config_sentence_transformers.json", {
        "__version__": {"sentence_transformers": "3.0.0"}, "prompts": prompts,
        "default_prompt_name": None, "similarity_fn_name": "cosine",
    })  # fmt: skip
    found = read_embedding_settings(tmp_path, None)
    assert found == EmbeddingSettings("last", True, kinds, prompts, None)


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_cls_token": True, "pooling_mode_lasttoken": True}, "cls + last"),
        ({"pooling_mode": "mean", "embedding_dimension": 8}, "mean"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": ["cls"]}, "cls"),
        ({"pooling_mode": ["mean", "lasttoken"]}, "mean + last"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({}, None),
        ({"pooling_mode_mean_tokens": False}, None),
    ],
)
def test_poolings(config: dict[str, Any], pooling: str | None, tmp_path: Path) -> None:
    write(tmp_path / "1_Pooling" / "config.json", config)
    assert read_embedding_settings(tmp_path, None).pooling == pooling


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [(0, None), (1, "mean"), (2, "cls"), (3, "last"), (4, "rank"), (9, "type 9")],
)
def test_the_types_of_gguf(kind: int, pooling: str | None, tmp_path: Path) -> None:
    assert read_embedding_settings(tmp_path, gguf(kind)).pooling == pooling


def test_the_module_counts_before_the_metadata(tmp_path: Path) -> None:
    write(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_lasttoken": True})
    assert read_embedding_settings(tmp_path, gguf(1)).pooling == "last"


def test_the_pooling_module_may_have_another_folder(tmp_path: Path) -> None:
    modules = [{"type": "sentence_transformers.models.Pooling", "path": "2_Pooling"}]
    write(tmp_path / "modules.json", modules)
    write(tmp_path / "1_Pooling" / "config.json", {"pooling_mode": "mean"})
    write(tmp_path / "2_Pooling" / "config.json", {"pooling_mode": "cls"})
    assert read_embedding_settings(tmp_path, None).pooling == "cls"


def test_prompts_may_be_missing(tmp_path: Path) -> None:
    for config in ({}, {"prompts": None}, {"prompts": {}}, {"default_prompt_name": None}):
        write(tmp_path / "config_sentence_transformers.json", config)
        assert read_embedding_settings(tmp_path, None) == EmbeddingSettings()


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("modules.json", "", "JSON"),
        ("modules.json", "[" * 100_000, "JSON"),
        ("modules.json", {}, "list"),
        ("modules.json", [5], r"\[0\]"),
        ("modules.json", [{"path": ""}], r"\[0\]"),
        ("modules.json", [{"type": "Pooling", "path": "../x"}], r"'\.\./x'"),
        ("modules.json", [{"type": "a.Pooling", "path": "/x"}], "'/x'"),
        ("modules.json", [{"type": "a.Pooling", "path": "x" * 300}], "too long"),
        ("modules.json", [{"type": "a.Pooling", "path": 5}], "5"),
        ("1_Pooling/config.json", "{", "JSON"),
        ("1_Pooling/config.json", [], "object"),
        ("1_Pooling/config.json", {"include_prompt": "no"}, "include_prompt.*'no'"),
        ("1_Pooling/config.json", {"pooling_mode": 5}, "pooling_mode.*5"),
        ("1_Pooling/config.json", {"pooling_mode": [5]}, r"pooling_mode.*\[5\]"),
        ("config_sentence_transformers.json", "nul", "JSON"),
        ("config_sentence_transformers.json", {"prompts": ["a"]}, "prompts"),
        ("config_sentence_transformers.json", {"prompts": {"a": 5}}, "prompts"),
        ("config_sentence_transformers.json", {"default_prompt_name": "a"}, "'a'"),
        ("config_sentence_transformers.json", {"default_prompt_name": 5}, "5"),
    ],
)
def test_damage_is_named(name: str, content: Any, named: str, tmp_path: Path) -> None:
    write(tmp_path / name, content)
    with pytest.raises(FormatError, match=named) as caught:
        read_embedding_settings(tmp_path, None)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the longest path of Linux")
@pytest.mark.parametrize("length", [4084, 4090, 4095, 4096, 5000])
def test_a_folder_whose_file_has_too_long_a_path(length: int, tmp_path: Path) -> None:
    """4,095 bytes are the longest path."""
    folder = ("x" * 200 + "/") * 30
    folder = folder[: length - len(str(tmp_path)) - 2] + "x"
    write(tmp_path / "modules.json", [{"type": "a.Pooling", "path": folder}])
    with pytest.raises(FormatError, match=r"modules\.json: \[0\]: path: .*too long"):
        read_embedding_settings(tmp_path, None)


@pytest.mark.parametrize("kind", ["1", 1.0, True, [1]])
def test_a_wrong_type_in_the_metadata(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"qwen3\.pooling_type"):
        read_embedding_settings(tmp_path, gguf(kind))
