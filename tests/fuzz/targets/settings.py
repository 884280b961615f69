"""JSON files beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

from ryzanstein_llm import SamplingParams
from ryzanstein_llm.formats import open_checkpoint
from ryzanstein_llm.formats.embedding_settings import read_embedding_settings
from ryzanstein_llm.formats.locate import DEMO_DIRECTORY
from ryzanstein_llm.loading import special_ids
from ryzanstein_llm.structured.grammars import llguidance
from ryzanstein_llm.text.chat_template import named_templates, special_token_texts
from ryzanstein_llm.text.gguf_tokenizer_writer import tokenizer_metadata
from ryzanstein_llm.text.tokenizer import Tokenizer

from ..models import CHATML, replace_file, small_model
from ..target import Ready, target

TEXT = "Once upon a time, 12 déjà\tvu's <|end_of_text|> 𝄞\n\n x"


def use(tokenizer: Tokenizer) -> None:
    """Encode a text and decode ids, in one go and piece by piece."""
    ids, later = tokenizer.encode_prompt(TEXT)
    tokenizer.fewest_ids("x" * 100_000)
    some = [*ids, *later, 0, 1, 255, 256, tokenizer.vocab_size]
    whole = tokenizer.decode(some)
    stream = tokenizer.stream()
    pieces = "".join(map(stream.push, some)) + stream.flush()
    assert pieces == whole, (pieces, whole)
    for token_id in some:
        tokenizer.token_bytes(token_id)


@target
def generation_config(folder: Path) -> Ready:
    """generation_config.json: defaults of sampling, and special ids."""
    path = small_model(folder / "model")
    file = path / "generation_config.json"
    seed = file.read_bytes()
    tokenizer = Tokenizer.from_file(path / "tokenizer.json", {})

    def read(data: bytes) -> None:
        replace_file(file, data)
        with open_checkpoint(path) as checkpoint:
            special_ids(checkpoint, tokenizer, 288)
            config = checkpoint.generation_config
        model = SimpleNamespace(path=path, generation_config=config)
        repr(SamplingParams.from_checkpoint(model))
        SamplingParams.from_checkpoint(model, temperature=0.0)

    names = ("top_k", "min_p", "typical_p", "repetition_penalty", "temperature", "eos_token_id")
    words = [f'"{name}": '.encode() for name in names]
    return Ready(read, [seed, b"{}", b""], words)


@target
def tokenizer_config(folder: Path) -> Ready:
    """tokenizer_config.json: special tokens and templates."""
    path = small_model(folder / "model")
    file = path / "tokenizer_config.json"
    config = json.loads(file.read_bytes())
    several = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": "x"}]
    seeds = [{**config, "chat_template": template} for template in (CHATML, several)]

    def read(data: bytes) -> None:
        replace_file(file, data)
        with open_checkpoint(path) as checkpoint:
            tokenizer = Tokenizer.from_checkpoint(checkpoint)
            assert tokenizer is not None
            tokenizer.encode(TEXT)
            special_ids(checkpoint, tokenizer, 288)
            named_templates(checkpoint.tokenizer_config)
            special_token_texts(checkpoint.tokenizer_config)

    return Ready(read, [json.dumps(seed).encode() for seed in seeds], [b'{"content": "</s>"}'])


@target
def embedding_settings(folder: Path) -> Ready:
    """The files of sentence-transformers: one object that has the content of all three."""
    seed = {
        "modules": [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ],
        "pooling": {"pooling_mode_mean_tokens": True, "include_prompt": True},
        "old pooling": {"pooling_mode": "cls"},
        "prompts": {"prompts": {"query": "Query: "}, "default_prompt_name": "query"},
    }
    (folder / "1_Pooling").mkdir()

    def read(data: bytes) -> None:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        parts = value if isinstance(value, dict) else {}
        for name, file in (
            ("modules", "modules.json"),
            ("pooling", "1_Pooling/config.json"),
            ("prompts", "config_sentence_transformers.json"),
        ):
            written = json.dumps(parts[name]).encode() if name in parts else data
            replace_file(folder / file, written)
        read_embedding_settings(folder, None)

    words = [b"../", b"pooling_mode_cls_token", b"lasttoken", b'"Normalize"']
    return Ready(read, [json.dumps(seed).encode()], words)


@target
def tokenizer(folder: Path) -> Ready:
    """tokenizer.json, and its way into GGUF and into llguidance."""
    path = small_model(folder / "model")
    demo = json.loads((DEMO_DIRECTORY / "tokenizer.json").read_bytes())
    merges = demo["model"]["merges"][:40]
    joined = {a + b if isinstance(m, list) else m.replace(" ", "") for m in merges for a, b in [m]}
    kept = {t: i for t, i in demo["model"]["vocab"].items() if len(t) == 1 or t in joined}
    demo["model"] |= {"merges": merges, "vocab": kept}
    pieces = [["<unk>", 0.0], ["▁a", -1.0], ["b", -2.0], ["▁", -3.0], ["<0x41>", -4.0]]
    unigram = {
        "version": "1.0", "added_tokens": [],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False},
    }  # fmt: skip
    seeds = [
        (path / "tokenizer.json").read_bytes(),
        *(json.dumps(each).encode() for each in (demo, unigram)),
    ]
    file = folder / "tokenizer.json"
    library = llguidance()

    def read(data: bytes) -> None:
        found = Tokenizer.from_file(replace_file(file, data), {"add_bos_token": True})
        use(found)
        tokenizer_metadata(
            found.raw,
            str(file),
            size=found.vocab_size,
            bos_id=None,
            eos_ids=(),
            chat_template=None,
        )

    assert library
    words = [b'"ByteLevel"', b'"Split"', b'"Regex"', b'"WordPiece"', b'"byte_fallback": true']
    return Ready(read, seeds, words)
