"""Forms with other tokenizers, and what is kept between texts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import needs_extra
from small_model import write_small_model

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.structured import OutputFormat
from ryzanstein_llm.structured.constraint import KEPT_GRAMMARS, GrammarConstraint
from ryzanstein_llm.text.gguf_tokenizer import build_tokenizer

needs_extra("structured", "llguidance")


@pytest.fixture(scope="module")
def spaced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitNetModel]:
    """A random model with a tokenizer as of SentencePiece: tokens that begin with their space, and
    bytes where there is no token. It has fewer tokens than the model."""
    directory = write_small_model(tmp_path_factory.mktemp("spaced") / "model")
    words = ["▁", *"abc:{}[],0123", '"', "▁a", "▁b", "▁c", "ab", "▁ab", '":', "▁abc", "abc"]
    tokens = ["<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    raw = build_tokenizer(
        {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [-float(rank) for rank in range(len(tokens))],
            "tokenizer.ggml.token_type": [3, 3, 2] + [6] * 256 + [1] * len(words),
            "tokenizer.ggml.bos_token_id": 0,
            "tokenizer.ggml.eos_token_id": 1,
        },
        "memory",
    )
    raw.save(str(directory / "tokenizer.json"))
    with BitNetModel(directory) as model:
        assert len(tokens) < model.vocab_size
        yield model


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "a b": {"type": "string", "pattern": "^[a-c]( [a-c]+){1,2}$"},
        "é": {"type": "array", "items": {"enum": [0, 1, 23]}, "minItems": 1, "maxItems": 3},
    },
    "required": ["a b", "é"],
    "additionalProperties": False,
}


def test_tokens_that_begin_with_their_space(
    spaced: BitNetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        {"schema": SCHEMA, "temperature": 1.5, "seed": seed, "max_tokens": 400}
        for seed in range(12)
    ]
    results = [spaced.generate("a b", return_result=True, **options) for options in asked]
    complete = [result for result in results if result.finish_reason == "eos"]
    assert len(complete) >= 6
    for result in complete:
        found = json.loads(result.text or "")
        assert re.fullmatch("[a-c]( [a-c]+){1,2}", found["a b"])
        assert set(found["é"]) <= {0, 1, 23}
    monkeypatch.setattr(GrammarConstraint, "forced", lambda self: None)
    again = [spaced.generate("a b", return_result=True, **options) for options in asked]
    assert [result.ids for result in again] == [result.ids for result in results]


def test_tokens_without_a_text_are_never_allowed(spaced: BitNetModel) -> None:
    output = OutputFormat.from_arguments({"regex": "(?s).*"})
    assert output is not None
    mask = output.constraint(spaced.vocabulary).allowed()
    assert mask is not None
    assert mask[1]  # the end of the text
    assert not mask[0]
    assert spaced.tokenizer is not None
    assert not mask[spaced.tokenizer.vocab_size :].any()


def test_grammars_are_kept_but_not_for_ever(spaced: BitNetModel) -> None:
    for count in range(2 * KEPT_GRAMMARS):
        assert spaced.generate("a", regex=f"a{{{count + 1}}}") == "a" * (count + 1)
    output = OutputFormat.from_arguments({"regex": "a"})
    assert output is not None
    constraint = output.constraint(spaced.vocabulary)
    assert isinstance(constraint, GrammarConstraint)
    assert len(constraint._grammars._compiled) == KEPT_GRAMMARS


def test_a_closed_model_takes_its_grammars_with_it() -> None:
    import gc
    import weakref

    with BitNetModel() as model:
        model.generate("a", regex="b")
        output = OutputFormat.from_arguments({"regex": "b"})
        assert output is not None
        constraint = output.constraint(model.vocabulary)
        assert isinstance(constraint, GrammarConstraint)
        kept = weakref.ref(constraint._grammars)
    del constraint, model
    gc.collect()
    assert kept() is None


FORK = """
import os, sys
import ryzanstein_llm
model = ryzanstein_llm.BitNetModel()
ask = lambda: model.generate("Once upon a time", regex="[a-z ]{30}", temperature=1.5, seed=3)
before = ask()
child = os.fork()
if not child:
    os._exit(0 if ask() == before else 1)
assert os.waitpid(child, 0)[1] == 0
assert ask() == before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_goes_on_with_the_same_grammars(tmp_path: Path) -> None:
    path = os.pathsep.join(each for each in sys.path if each)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
