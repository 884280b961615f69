"""`ryzanstein-llm embed` prints the vectors of `BitNetModel.embed` as lines of JSON."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_model import write_embedding_model, write_json

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.cli import main

TEXTS = ["a king", "drei Söhne", "- eggs"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_embedding_model(tmp_path_factory.mktemp("model"), max_position_embeddings=32)
    write_json(path / "config_sentence_transformers.json", {"prompts": {"query": "find: "}})
    return path


class Pipe(io.TextIOWrapper):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="ascii")


def run(directory: Path, *arguments: str) -> int:
    return main(["embed", "--model", str(directory), "--threads", "1", *arguments])


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found = capsys.readouterr()
    assert found.err == ""
    return [json.loads(line) for line in found.out.splitlines()]


def expect(lines: list[dict[str, Any]], texts: list[str], vectors: np.ndarray) -> None:
    assert [line["text"] for line in lines] == texts
    found = np.array([line["embedding"] for line in lines])
    assert (found.astype(np.float32) == vectors).all()  # the numbers are exact
    assert all(set(line) == {"text", "embedding"} for line in lines)


def test_texts_may_be_arguments(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(directory, *TEXTS[:2], "--", TEXTS[2]) == 0
    with BitNetModel(directory, n_threads=1) as model:
        expect(printed(capsys), TEXTS, model.embed(TEXTS))


@pytest.mark.parametrize("arguments", [[], ["-"], ["-f", "-"]])
def test_texts_may_be_lines_of_a_pipe(
    directory: Path,
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = "\ufeff" + "\r\n".join([*TEXTS, "", "end"]) + "\n"
    monkeypatch.setattr(sys, "stdin", Pipe(content.encode()))
    assert run(directory, *arguments) == 0
    texts = [*TEXTS, "", "end"]  # an empty line is a text, so that rows are those of the input
    with BitNetModel(directory, n_threads=1) as model:
        expect(printed(capsys), texts, model.embed(texts))


def test_texts_may_be_lines_of_a_file(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    assert run(directory, "-f", str(tmp_path / "texts.txt")) == 0
    with BitNetModel(directory, n_threads=1) as model:
        expect(printed(capsys), TEXTS, model.embed(TEXTS))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["--prompt", "query"], {"prompt": "find: "}),
        (["--prompt", "other: "], {"prompt": "other: "}),
        (["--pooling", "last", "--batch-size", "1"], {"pooling": "last"}),
        (["--truncate-dim", "7"], {"truncate_dim": 7}),
        (["--no-normalize"], {"normalize": False}),
    ],
)
def test_options(
    directory: Path,
    arguments: list[str],
    options: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(directory, *TEXTS[:2], *arguments) == 0
    with BitNetModel(directory, n_threads=1) as model:
        expect(printed(capsys), TEXTS[:2], model.embed(TEXTS[:2], **options))


def test_long_texts(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "a king had three sons and a daughter, and he lived long"
    assert run(directory, "a", long) == 2
    found = capsys.readouterr()
    assert (found.out, found.err.count("\n")) == ("", 1)
    assert "texts[1]" in found.err
    assert run(directory, long, "--truncate") == 0
    with BitNetModel(directory, n_threads=1) as model:
        expect(printed(capsys), [long], model.embed([long], truncate=True))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "--pooling", "max"], "--pooling must be one of 'mean', 'cls', 'last', not 'max'"),
        (["a", "--truncate-dim", "0"], "--truncate-dim must be in 1..160, not 0"),
        (["a", "--truncate-dim", "x"], "must be an integer, not 'x'"),
        (["a", "--batch-size", "0"], "--batch-size must be in 1.."),
        (["a", "-f", "b"], "TEXT ('a') and -f exclude each other"),
        (["-f", "missing.txt"], "missing.txt"),
    ],
)
def test_bad_arguments(
    directory: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(directory, *arguments) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert said in found.err


def test_nothing_to_embed(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Pipe(b""))
    assert run(directory) == 2
    assert "standard input is empty" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", None)
    assert run(directory) == 2
    assert "a text is missing" in capsys.readouterr().err


def test_an_embedding_model_does_not_generate(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("generate", "chat"):
        words = ["a"] if command == "generate" else []
        assert main([command, *words, "--model", str(directory), "--threads", "1"]) == 2
        assert "embeds texts and cannot continue them" in capsys.readouterr().err
