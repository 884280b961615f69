"""A training run: what it leaves, how it is interrupted and resumed, what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from toy_training import RunDirectory, settings, torch, train_toy

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import (
    CheckpointNotFoundError,
    FormatError,
    InvalidParameterError,
)
from training.card import CardTexts, write_card
from training.prompts import text_prompts
from training.words import count, size

pytestmark = pytest.mark.parity

TEMPLATE = Path(__file__).parents[2] / "training" / "card_template.md"


def after(count: int) -> Callable[[int], bool]:
    return lambda steps: steps == count


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    state = run.load_state()
    assert state is not None
    found: dict[str, torch.Tensor] = state["trainer"]["weights"]
    return found


def log(run: RunDirectory) -> list[dict[str, float]]:
    return [json.loads(line) for line in run.log_file.read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return train_toy(tmp_path_factory.mktemp("finished"))


def test_a_run_leaves_checkpoints_curve_samples_and_figures(finished: RunDirectory) -> None:
    for folder in (finished.packed, finished.master):
        names = {path.name for path in folder.iterdir()} - {"README.md", "SAMPLES.md"}
        assert names == {
            "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
            "tokenizer_config.json",
        }  # fmt: skip
    assert finished.plot_file.read_bytes().startswith(b"\x89PNG")
    prompt = text_prompts(finished.validation_file.read_text(encoding="utf-8"))[0]
    assert finished.samples_file.read_text(encoding="utf-8").count(f"]\n{prompt}") == 8
    assert [row["steps"] for row in log(finished)] == list(range(1, 9))


def test_figures_are_those_of_the_library(finished: RunDirectory) -> None:
    text = finished.validation_file.read_text(encoding="utf-8")
    with BitNetModel(finished.packed, kv_dtype="float32") as model:
        found = model.perplexity(text)
    results = finished.results()
    assert results["validation_tokens"] == found.tokens
    # Activations near a tie may round apart: see tests/reference/steady.py.
    assert results["bits_per_byte"] == pytest.approx(found.bits_per_byte, rel=1e-3)


def test_the_best_state_is_kept_not_the_last(tmp_path: Path) -> None:
    # A rate at which nothing is learnt for long.
    run = train_toy(tmp_path, settings(learning_rate=1.0, second_learning_rate=1.0, warmup=0.6))
    best = min(log(run), key=lambda row: row["bits_per_byte"])
    assert best["steps"] < 8
    assert run.results()["best_steps"] == best["steps"]


def test_the_same_settings_give_the_same_model(finished: RunDirectory, tmp_path: Path) -> None:
    again, other = train_toy(tmp_path), tmp_path / "other"
    other.mkdir()
    file = Path("packed") / "model.safetensors"
    assert (again.path / file).read_bytes() == (finished.path / file).read_bytes()
    seeded = train_toy(other, settings(seed=1))
    assert (seeded.path / file).read_bytes() != (finished.path / file).read_bytes()


def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    """Weights, optimiser, batches and dropout all go on where they were."""
    folders = [tmp_path / "whole", tmp_path / "parts"]
    for folder in folders:
        folder.mkdir()
    chosen = settings(dropout=0.2, accumulate=2, rows=2)
    whole = train_toy(folders[0], chosen)
    for steps in (3, 5):
        parts = train_toy(folders[1], chosen, stop=after(steps))
        assert not parts.results_file.exists()
    parts = train_toy(folders[1], chosen)
    expected = weights(whole)
    for name, tensor in weights(parts).items():
        assert torch.equal(tensor, expected[name]), name
    assert [row["loss"] for row in log(parts)] == [row["loss"] for row in log(whole)]


def test_a_finished_run_is_not_trained_again(finished: RunDirectory) -> None:
    before = weights(finished)
    train_toy(finished.path.parent)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(finished).items())


def test_a_directory_with_another_run_is_refused(finished: RunDirectory) -> None:
    with pytest.raises(InvalidParameterError, match="other dropout, seed"):
        train_toy(finished.path.parent, settings(dropout=0.1, seed=7))


@pytest.mark.parametrize("text", ["{}", "[]", "{", '{"settings": {"speed": 9}}'])
def test_damaged_settings_are_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text(text)
    with pytest.raises(FormatError, match=r"settings\.json"):
        train_toy(tmp_path)


def test_changed_texts_are_refused(tmp_path: Path) -> None:
    train_toy(tmp_path, settings(steps=1))
    (tmp_path / "texts" / "more.txt").write_text("More.\n" * 40)
    with pytest.raises(InvalidParameterError, match="other texts"):
        train_toy(tmp_path, settings(steps=1))


def test_a_damaged_state_is_refused_by_name(tmp_path: Path) -> None:
    run = train_toy(tmp_path, settings(steps=1))
    (run.path / "state.pt").write_bytes(b"no state")
    with pytest.raises(FormatError, match=r"state\.pt"):
        train_toy(tmp_path, settings(steps=1))


class TestTeaching:
    def test_a_float_run_teaches_and_lends_its_tokenizer(self, tmp_path: Path) -> None:
        folders = [tmp_path / "teacher", tmp_path / "student"]
        for folder in folders:
            folder.mkdir()
        teacher = train_toy(folders[0], settings(steps=2, ternary=False, seed=3))
        assert not teacher.packed.exists()  # its weights are no BitNet model
        student = train_toy(folders[1], settings(steps=2, teachers=(str(teacher.path),)))
        file = "tokenizer.json"
        assert (student.path / file).read_bytes() == (teacher.path / file).read_bytes()
        assert student.packed.exists()

    def test_a_teacher_that_has_read_the_validation_text_is_refused(self, tmp_path: Path) -> None:
        folders = [tmp_path / "teacher", tmp_path / "student"]
        for folder in folders:
            (folder / "texts").mkdir(parents=True)
            (folder / "texts" / "more.txt").write_text("More.\n" * 40)
        teacher = train_toy(folders[0], settings(steps=1))
        student = settings(steps=1, teachers=(str(teacher.path),), validation="more.txt")
        with pytest.raises(
            InvalidParameterError, match=r"validation text is None, not 'more\.txt'"
        ):
            train_toy(folders[1], student)

    def test_a_teacher_of_other_texts_is_refused(self, tmp_path: Path) -> None:
        folders = [tmp_path / "teacher", tmp_path / "student"]
        for folder in folders:
            (folder / "texts").mkdir(parents=True)
        (folders[0] / "texts" / "more.txt").write_text("More.\n" * 400)
        teacher = train_toy(folders[0], settings(steps=1))
        with pytest.raises(InvalidParameterError, match="the teacher's texts are others"):
            train_toy(folders[1], settings(steps=1, teachers=(str(teacher.path),)))

    def test_an_absent_teacher_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointNotFoundError, match="absent"):
            train_toy(tmp_path, settings(teachers=(str(tmp_path / "absent"),)))


def test_a_run_begun_before_a_setting_existed_goes_on(tmp_path: Path) -> None:
    run = train_toy(tmp_path, settings(steps=2), stop=after(1))
    file = run.path / "settings.json"
    begun = json.loads(file.read_text())
    del begun["settings"]["origin"]
    file.write_text(json.dumps(begun))
    assert train_toy(tmp_path, settings(steps=2)).results()["steps"] == 2


class TestCard:
    def test_it_states_the_figures_of_the_library(self, finished: RunDirectory) -> None:
        found = write_card(finished, "toy", max_tokens=8)
        card = (finished.packed / "README.md").read_text(encoding="utf-8")
        assert card.startswith("# toy\n")
        facts = finished.results()["texts"]
        for text in (
            f"{found['bits_per_byte']:.4f}",
            f"{found['perplexity']:.2f}",
            f"{size(facts['training_bytes'])} to train on",
            f"{count(facts['held_out_places'], 'block')} of paragraphs",
            "8 steps of 192 tokens",
            "Not stated.",
        ):
            assert text in card
        assert "$" not in card

    def test_it_says_what_it_is_given_and_nothing_of_its_own_accord(
        self, finished: RunDirectory
    ) -> None:
        """A model of laws or of recipes has the same card as one of tales."""
        given = CardTexts("For tests.", "One text.", "MIT.", ["The mill"])
        write_card(finished, "toy", given, max_tokens=8)
        card = (finished.packed / "README.md").read_text(encoding="utf-8")
        for text in ("For tests.", "One text.", "MIT.", "1 prompt,"):
            assert text in card
        samples = (finished.packed / "SAMPLES.md").read_text(encoding="utf-8")
        assert samples.count("**") == 2
        assert "**The mill**" in samples
        own = TEMPLATE.read_text(encoding="utf-8").lower()
        judging = ("tale", "story", "demonstration", "well formed", "knows", "good", "bad")
        assert not [word for word in judging if re.search(rf"\b{word}\b", own)]

    def test_samples_begin_like_held_out_paragraphs(self, finished: RunDirectory) -> None:
        write_card(finished, "toy", max_tokens=8)
        samples = (finished.packed / "SAMPLES.md").read_text(encoding="utf-8")
        prompts = text_prompts(finished.validation_file.read_text(encoding="utf-8"))
        assert prompts
        for prompt in prompts:
            assert f"**{prompt}**" in samples

    def test_what_looks_like_markdown_is_shown_as_written(self, finished: RunDirectory) -> None:
        write_card(finished, "toy", CardTexts(prompts=["a*b_<c>"]), max_tokens=8)
        samples = (finished.packed / "SAMPLES.md").read_text(encoding="utf-8")
        assert r"**a\*b\_\<c\>**" in samples

    def test_a_run_of_an_earlier_version_has_a_card(self, finished: RunDirectory) -> None:
        results = finished.results()
        try:
            finished.write_json(finished.results_file, {**results, "texts": None})
            write_card(finished, "toy", max_tokens=8)
        finally:
            finished.write_json(finished.results_file, results)

    def test_an_unfinished_run_has_none(self, tmp_path: Path) -> None:
        run = train_toy(tmp_path, stop=after(2))
        with pytest.raises(CheckpointNotFoundError, match="not finished"):
            write_card(run, "half-trained")
