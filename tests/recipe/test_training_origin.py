"""A run that begins with the weights of a checkpoint, and checkpoints it does not begin with."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from toy_training import RunDirectory, settings, torch, train_toy

from ryzanstein_llm.errors import (
    FormatError,
    InvalidParameterError,
    TokenizerMissingError,
    UnsupportedModelError,
)
from training.card import write_card
from training.origin import read_origin, read_shape
from training.settings import SHAPES, Settings
from training.vocabulary import EOS

pytestmark = pytest.mark.parity


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return train_toy(tmp_path_factory.mktemp("finished"))


def onwards(run: RunDirectory, **changes: Any) -> Settings:
    """For a run that begins with the weights of this one."""
    return settings(origin=str(run.master), shape=read_shape(run.master), **changes)


@contextlib.contextmanager
def changed(checkpoint: Path) -> Iterator[dict[str, torch.Tensor]]:
    """Its tensors, which are written again."""
    from safetensors.torch import load_file, save_file

    file = checkpoint / "model.safetensors"
    tensors = load_file(file)
    yield tensors
    save_file(tensors, file)


@pytest.fixture
def master(finished: RunDirectory, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to be spoilt."""
    return Path(shutil.copytree(finished.master, tmp_path / "changed"))


def test_it_begins_with_the_weights_and_the_tokenizer(
    finished: RunDirectory, tmp_path: Path
) -> None:
    run = train_toy(tmp_path, onwards(finished, steps=1, learning_rate=0.0))
    for file in ("packed/model.safetensors", "bf16/model.safetensors", "tokenizer.json"):
        assert (run.path / file).read_bytes() == (finished.path / file).read_bytes()


def test_it_learns_further(finished: RunDirectory, tmp_path: Path) -> None:
    run = train_toy(tmp_path, onwards(finished, steps=4))
    assert run.results()["bits_per_byte"] < finished.results()["bits_per_byte"] - 0.05


def test_the_weights_it_began_with_are_kept_where_none_are_better(
    finished: RunDirectory, tmp_path: Path
) -> None:
    ruinous = onwards(finished, steps=2, learning_rate=1.0, second_learning_rate=1.0, warmup=0.0)
    run = train_toy(tmp_path, ruinous)
    assert run.results()["best_steps"] == 0
    assert run.results()["bits_per_byte"] == finished.results()["bits_per_byte"]


def test_it_is_resumed_with_its_own_weights_and_without_the_checkpoint(
    finished: RunDirectory, master: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / "whole", tmp_path / "parts"]
    for folder in folders:
        folder.mkdir()
    chosen = dataclasses.replace(onwards(finished, steps=3), origin=str(master))
    whole = train_toy(folders[0], chosen)
    train_toy(folders[1], chosen, stop=lambda steps: steps == 1)
    shutil.rmtree(master)
    parts = train_toy(folders[1], chosen)
    file = Path("packed") / "model.safetensors"
    assert (parts.path / file).read_bytes() == (whole.path / file).read_bytes()


def test_a_refused_checkpoint_leaves_no_run_behind(finished: RunDirectory, tmp_path: Path) -> None:
    packed = dataclasses.replace(onwards(finished, steps=1), origin=str(finished.packed))
    with pytest.raises(UnsupportedModelError, match="is packed"):
        train_toy(tmp_path, packed)
    train_toy(tmp_path, onwards(finished, steps=1))


def test_other_sizes_are_refused(finished: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="sizes are"):
        train_toy(tmp_path, settings(origin=str(finished.master), shape=SHAPES["tiny"]))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_act", "silu"),
        ("head_dim", 4),
        ("tie_word_embeddings", False),
        ("vocab_size", 100),  # fewer than bytes
        ("num_hidden_layers", 1),  # of two
    ],
)
def test_graphs_that_the_recipe_does_not_train_are_refused(
    master: Path, key: str, value: object
) -> None:
    file = master / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    if key == "tie_word_embeddings":
        with changed(master) as tensors:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    named = {"vocab_size": "vocabulary", "num_hidden_layers": "have no place"}
    with pytest.raises(UnsupportedModelError, match=f"changed.*{named.get(key, key)}"):
        read_origin(master)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(master: Path, value: float) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    with changed(master) as tensors:
        tensors[name][3, 5] = value
    with pytest.raises(FormatError, match=name):
        read_origin(master)


@pytest.mark.parametrize(
    ("before", "after", "error"),
    [
        (EOS, "<|the_end|>", UnsupportedModelError),
        ('":300', '":3000', UnsupportedModelError),  # a gap in the numbers
        ('"model"', '"modal"', FormatError),
    ],
)
def test_tokenizers_that_do_not_fit_are_refused(
    master: Path, before: str, after: str, error: type[Exception]
) -> None:
    file = master / "tokenizer.json"
    text = file.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, after), "utf-8")
    with pytest.raises(error, match=r"tokenizer\.json"):
        read_origin(master)


def test_a_tokenizer_is_needed(master: Path) -> None:
    (master / "tokenizer.json").unlink()
    with pytest.raises(TokenizerMissingError):
        read_origin(master)


def test_texts_are_read_whole_whatever_the_tokenizer_cuts(master: Path) -> None:
    file = master / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(16)
    tokenizer.save(str(file))
    assert len(read_origin(master).tokenizer.encode("the " * 20).ids) > 20


def test_it_may_have_teachers_with_the_same_tokenizer_alone(
    finished: RunDirectory, tmp_path: Path
) -> None:
    (tmp_path / "teacher").mkdir()
    chosen = onwards(finished, steps=1, teachers=(str(finished.path),))
    assert train_toy(tmp_path, chosen).results()["steps"] == 1
    small = dataclasses.replace(chosen.shape, vocabulary=300)
    teacher = train_toy(tmp_path / "teacher", settings(steps=1, shape=small))
    (tmp_path / "other").mkdir()
    with pytest.raises(InvalidParameterError, match="several tokenizers"):
        train_toy(tmp_path / "other", dataclasses.replace(chosen, teachers=(str(teacher.path),)))


def test_float_weights_do_not_begin_with_ternary_ones(finished: RunDirectory) -> None:
    with pytest.raises(InvalidParameterError, match="origin"):
        onwards(finished, ternary=False)


def test_the_card_says_what_it_began_with(finished: RunDirectory, tmp_path: Path) -> None:
    run = train_toy(tmp_path, onwards(finished, steps=1))
    write_card(run, "tale-teller", max_tokens=8)
    card = (run.packed / "README.md").read_text(encoding="utf-8")
    tokens = f"{finished.results()['tokens'] / 1e6:.1f} million tokens"
    assert f"| the weights of run ({tokens}), trained on the same texts |" in card
    assert "held out of training." in card


def test_the_card_says_what_else_it_may_have_read(
    finished: RunDirectory, master: Path, tmp_path: Path
) -> None:
    begun = dataclasses.replace(onwards(finished, steps=1), origin=str(master))
    run = train_toy(tmp_path, begun)
    write_card(run, "tale-teller", max_tokens=8)
    card = (run.packed / "README.md").read_text(encoding="utf-8")
    assert "| the weights of changed |" in card
    assert "held out of this training, but perhaps not of that of changed." in card
