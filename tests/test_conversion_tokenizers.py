"""The tokenizer of a converted model gives the same ids, or the conversion is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reference import write_random_family

import ryzanstein_llm
from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import ConversionError, TokenizerMissingError
from ryzanstein_llm.testing import tokenizer_json

TEXTS = (
    "Once upon  a time,\n\n in 1984 it's GRÖSSE 12345 <|end_of_text|> \u4f60\u597d \U0001f600",
    "",
    " ",
    "a",
)
SIZES: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}


def checkpoint(directory: Path, spec: dict[str, Any], **changes: Any) -> Path:
    size = 1 + max(
        [*spec["model"]["vocab"].values(), *(token["id"] for token in spec["added_tokens"])]
    )
    path = write_random_family(
        directory / "source", "qwen3", "group256", dtype="float16", **SIZES,
        **{"vocab_size": size + 3, "eos_token_id": [1], **changes},
    )  # fmt: skip
    (path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    config = {
        "bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>",
        "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    }  # fmt: skip
    (path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return path


def byte_level(**changes: Any) -> dict[str, Any]:
    spec = tokenizer_json({"vocab_size": 700, "bos_token_id": 0, "eos_token_id": 1})
    spec["model"].update(changes)
    return spec


def pieces() -> dict[str, Any]:
    """BPE of SentencePiece as transformers converts it."""
    tokens = ["<unk>", "<|begin_of_text|>", "<|end_of_text|>"]
    tokens += [f"<0x{byte:02X}>" for byte in range(256)]
    tokens += ["\u2581t", "he", "\u2581the", "\u2581", "t", "h", "e", "a"]
    added = [
        {"id": number, "content": tokens[number], "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False, "special": True}
        for number in range(3)
    ]  # fmt: skip
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, space],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {
                "<|begin_of_text|>": {
                    "id": "<|begin_of_text|>", "ids": [1], "tokens": ["<|begin_of_text|>"]
                }
            },
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": True,
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "byte_fallback": True,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": ["\u2581 t", "h e", "\u2581t he"],
        },
    }  # fmt: skip


def same_tokenizer(first: Path, second: Path) -> None:
    with BitNetModel(first, n_threads=1) as one, BitNetModel(second, n_threads=1) as other:
        for text in TEXTS:
            for special in (True, False):
                ids = one.tokenize(text, add_special_tokens=special)
                assert other.tokenize(text, add_special_tokens=special) == ids
            assert other.detokenize(ids) == one.detokenize(ids)
        assert set(one.eos_ids) == set(other.eos_ids)
        assert one.start_id == other.start_id
        assert one.chat_template == other.chat_template


def convert(source: Path, dst: Path, **options: Any) -> Path:
    return ryzanstein_llm.convert(source, dst, n_threads=1, **options)


SPECS = {
    "llama-bpe": byte_level,
    "sentencepiece": pieces,
}


@pytest.mark.parametrize("kind", SPECS)
def test_into_gguf_and_back(kind: str, tmp_path: Path) -> None:
    eos = [1] if kind == "llama-bpe" else [2]
    source = checkpoint(tmp_path, SPECS[kind](), eos_token_id=eos, bos_token_id=eos[0] - 1)
    convert(source, tmp_path / "a.gguf")
    same_tokenizer(source, tmp_path / "a.gguf")
    convert(tmp_path / "a.gguf", tmp_path / "b")
    same_tokenizer(source, tmp_path / "b")
    convert(tmp_path / "a.gguf", tmp_path / "c.gguf")
    same_tokenizer(source, tmp_path / "c.gguf")


def test_files_are_copied_for_transformers(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, byte_level())
    (source / "generation_config.json").write_text('{"temperature": 0.5}', encoding="utf-8")
    convert(source, tmp_path / "b")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "b" / name).read_bytes() == (source / name).read_bytes()


@pytest.mark.parametrize("to", ["safetensors", "tq2_0"])
def test_without_a_tokenizer(to: str, tmp_path: Path) -> None:
    source = checkpoint(tmp_path, byte_level())
    convert(source, tmp_path / "b", to=to, tokenizer=False)
    with BitNetModel(source, n_threads=1) as one, BitNetModel(tmp_path / "b", n_threads=1) as other:
        assert other.tokenizer is None
        assert set(other.eos_ids) <= set(one.eos_ids)
        with pytest.raises(TokenizerMissingError):
            other.generate("a", max_tokens=1)
        assert (other.forward([5, 6]) == one.forward([5, 6])).all()


def unknown_split() -> dict[str, Any]:
    spec = byte_level()
    spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+"
    return spec


def lowercase() -> dict[str, Any]:
    spec = byte_level()
    spec["normalizer"] = {"type": "Lowercase"}
    return spec


def stripped() -> dict[str, Any]:
    spec = byte_level()
    spec["added_tokens"][0]["lstrip"] = True
    return spec


def without_steps() -> dict[str, Any]:
    spec = byte_level()
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": []}
    return spec


def normalized_in_no_steps() -> dict[str, Any]:
    spec = byte_level()
    spec["normalizer"] = {"type": "Sequence", "normalizers": []}
    return spec


def unknown_token() -> dict[str, Any]:
    spec = pieces()
    spec["model"]["unk_token"] = "<none>"
    return spec


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (without_steps, "pre-tokenizer has no steps"),
        (normalized_in_no_steps, "normalizer is 'Sequence'"),
        (unknown_token, "unknown token '<none>' is not in its vocabulary"),
        (unknown_split, "pre-tokenizer has no known name"),
        (lowercase, "normalizer is 'Lowercase'"),
        (stripped, "has lstrip"),
        (lambda: byte_level(end_of_word_suffix="</w>"), "end_of_word_suffix"),
    ],
)
def test_what_gguf_cannot_say_is_refused(make: Any, why: str, tmp_path: Path) -> None:
    source = checkpoint(tmp_path, make())
    with pytest.raises(ConversionError, match=why) as info:
        convert(source, tmp_path / "a.gguf")
    assert "--without-tokenizer" in str(info.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    convert(source, tmp_path / "a.gguf", tokenizer=False)


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, byte_level())
    file = source / "tokenizer.json"
    file.write_text("\ufeff" + file.read_text(encoding="utf-8"), encoding="utf-8")
    convert(source, tmp_path / "a.gguf")
    same_tokenizer(source, tmp_path / "a.gguf")


def test_more_end_tokens_than_keys_are_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path, byte_level(), eos_token_id=[1, 300, 301, 302])
    with pytest.raises(ConversionError, match="4 tokens end a text"):
        convert(source, tmp_path / "a.gguf")
