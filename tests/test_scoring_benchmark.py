"""The benchmark of `choose` measures what it says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import scoring
from ryzanstein_llm import BitNetModel


def test_the_texts_alone_leave_out_instruction_labels_and_head(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with BitNetModel(n_threads=1) as model:
        instruction, texts = (
            scoring.random_ids(model, 40, 0),
            [scoring.random_ids(model, scoring.TEXT_TOKENS, 1 + index) for index in range(11)],
        )
        extend, rows = model.engine.extend, []

        def counting(parts: list[tuple[object, int, np.ndarray]], cancel: object) -> object:
            rows.append([(position, len(ids)) for _, position, ids in parts])
            return extend(parts, cancel)  # type: ignore[arg-type]

        monkeypatch.setattr(model.engine, "extend", counting)
        monkeypatch.setattr(model.engine, "logits", None)
        assert scoring.texts_alone(model, instruction, texts) > 0
        assert rows[-2:] == [[(40, 60)] * 9, [(40, 60)] * 2]
        assert all(each == [(0, 40)] for each in rows[:-2])
        model.engine.clear()
        assert model.engine.store.pool.nbytes == 0


def test_errors_are_those_of_the_log_probabilities() -> None:
    with BitNetModel(n_threads=1) as model:
        prompt, labels = scoring.random_ids(model, 30, 0), [[5, 6], [7], [5, 8]]
        choice = model.choose(prompt, labels)
        assert scoring.largest_error(model, prompt, labels, choice) < scoring.TOLERANCE
        choice.scores[1].logprobs[0] += 1e-3
        assert scoring.largest_error(model, prompt, labels, choice) > 9e-4


def test_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(
        "sys.argv", ["scoring", "--threads", "1", "--texts", "3", "--rounds", "2", "--kept"]
    )
    monkeypatch.setattr(scoring, "ALLOWED", 1000)
    assert scoring.main() == 0
    assert "the same in all rounds: True" in capsys.readouterr().out
