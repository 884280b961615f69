"""`python -m training`: what it prints, when it stops, and what it refuses before any work."""

from __future__ import annotations

import os
import re
import shlex
import signal
from pathlib import Path

import pytest
from toy_training import TALE, RunDirectory, train_toy

from ryzanstein_llm import BitNetModel
from ryzanstein_llm import cli as library
from training import __main__ as command
from training import run as training_run
from training.command import parser
from training.origin import read_shape
from training.settings import Budget

pytestmark = pytest.mark.parity

ARGUMENTS = (
    "--shape", "tiny", "--vocabulary", "300", "--context", "24", "--rows", "2", "--no-compile",
    "--precision", "float32", "--device", "cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return train_toy(tmp_path_factory.mktemp("finished"))


def arguments(texts: Path, directory: Path, *more: str) -> list[str]:
    return ["train", str(texts), str(directory), *ARGUMENTS, *more]


def run(texts: Path, directory: Path, *more: str) -> int:
    return command.main(arguments(texts, directory, *more))


def test_one_command_goes_from_texts_to_a_model_with_a_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(TALE.parent, tmp_path / "run", "--steps", "2", "--name", "toy") == 0
    with BitNetModel(tmp_path / "run" / "packed") as model:
        assert model.config.n_layers == 2
        assert isinstance(model.generate("Once", max_tokens=4), str)
    assert "# toy" in (tmp_path / "run" / "packed" / "README.md").read_text("utf-8")
    assert "bits a byte with the library" in capsys.readouterr().out


def test_ctrl_c_saves_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    former = signal.getsignal(signal.SIGINT)
    step = training_run.Trainer.step

    def interrupted(trainer: training_run.Trainer, progress: float) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        return step(trainer, progress)

    with monkeypatch.context() as patched:
        patched.setattr(training_run.Trainer, "step", interrupted)
        assert run(TALE.parent, tmp_path / "run", "--steps", "2") == 130
    said = capsys.readouterr().out
    assert "stopped and saved after 1 step," in said
    assert shlex.join(arguments(TALE.parent, tmp_path / "run", "--steps", "2")) in said
    assert signal.getsignal(signal.SIGINT) is former
    assert run(TALE.parent, tmp_path / "run", "--steps", "2") == 0
    assert "resumed after 1 step," in capsys.readouterr().out


def test_a_minute_is_a_budget() -> None:
    options = parser().parse_args(["train", "texts", "run", "--minutes", "1.5"])
    assert command.settings_of(options).budget == Budget(minutes=1.5)
    options = parser().parse_args(["train", "texts", "run"])
    assert command.settings_of(options).budget == Budget(minutes=60)


def test_a_rate_brings_that_of_the_second_half() -> None:
    typed = ["train", "texts", "run", "--learning-rate", "0.006", "--kv-heads", "4"]
    found = command.settings_of(parser().parse_args(typed))
    assert found.second_learning_rate == pytest.approx(0.004)
    assert found.shape.kv_heads == 4


def test_going_on_takes_the_sizes_of_the_checkpoint(
    finished: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["train", "texts", "run", "--from", str(finished.master)]
    options = parser().parse_args(typed)
    assert command.settings_of(options).shape == read_shape(finished.master)
    assert command.main([*typed, "--shape", "6m", "--kv-heads", "4"]) == 2
    assert "--shape 6m, --kv-heads 4: with --from" in capsys.readouterr().err


def test_what_it_says_to_type_next_can_be_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(TALE.parent, tmp_path / "run", "--steps", "2") == 0
    said = capsys.readouterr().out
    *_, generate, further = (shlex.split(line) for line in said.splitlines())
    assert library.main(generate[1:]) == 0
    assert capsys.readouterr().out.startswith(generate[2])
    assert further[1:3] == ["-m", "training"]
    assert command.main([*further[3:], "--no-compile"]) == 0
    assert (tmp_path / "run-2" / "packed" / "model.safetensors").exists()


def test_lines_during_the_run_say_how_long_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(TALE.parent, tmp_path / "run", "--steps", "4") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "tokens/s" in line]
    assert [line[:5] for line in lines] == [" 25%:", " 50%:", " 75%:", "100%:"]
    assert all(re.search(r", \d+ s left$", line) for line in lines)
    assert all(len(line) < 80 for line in lines)


WRONG_TEXTS = {
    "no such folder": None,
    "no .txt files in this folder": {"a.md": "Text.\n\n" * 90},
    "no text in its 2 files": {"a.txt": "", "b.txt": "\n\n"},
    "cannot hold out a twentieth of 1 paragraph in 1 file": {"a.txt": "Words. " * 900},
    "are too few: a context of 24 needs 48 or more": {"a.txt": "Once.\n" * 14},
    "not UTF-8": {"a.txt": b"caf\xe9 \n" * 90},
}


@pytest.mark.parametrize("message", WRONG_TEXTS)
def test_texts_that_cannot_be_trained_on_are_refused_in_one_line(
    tmp_path: Path, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    files = WRONG_TEXTS[message]
    if files is not None:
        (tmp_path / "texts").mkdir()
        for name, text in files.items():
            data = text if isinstance(text, bytes) else text.encode()
            (tmp_path / "texts" / name).write_bytes(data)
    assert run(tmp_path / "texts", tmp_path / "run", "--steps", "1") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'texts'}")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--validation", "absent.txt"], "no file 'absent.txt'"),
        (["--rows", "0"], "rows must be"),
        (["--threads", "0"], "threads must be"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--from", "absent"], "absent"),
        (["--teacher", "absent"], "absent"),
        (["--data", "absent.md"], "absent.md"),
        (["--prompts", "absent.txt"], "absent.txt"),
    ],
)
def test_options_that_cannot_be_are_refused_in_one_line(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ARGUMENTS if "--from" not in options else ()
    assert command.main(["train", str(TALE.parent), str(tmp_path / "run"), *sizes, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_ctrl_c_while_nothing_is_trained_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(run: training_run.Run) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training_run.Run, "compile", interrupted)
    assert run(TALE.parent, tmp_path / "run", "--steps", "2") == 130
    assert capsys.readouterr().err.startswith("interrupted")
