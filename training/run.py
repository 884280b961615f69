"""A run from texts to checkpoints: prepare, train with a look at the model now and then, finish."""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import vocabulary
from .continuation import continue_text
from .corpus import read_corpus
from .directory import RunDirectory
from .evaluation import Score, score
from .export import rounded_to_bfloat16, write_checkpoints
from .heritage import origin_of, teacher_of, tokenizer_of
from .machine import Machine
from .model import build
from .plot import plot_history
from .schedule import learning_rate
from .settings import Settings
from .trainer import Trainer
from .windows import Windows

__all__ = ["Run", "train"]

LOOKS = 40  # at the model during a run: validation, files
SAMPLES = 10  # of which so many print a sample
LOOK_SHARE = 0.05  # of the time is for looks, at most: fewer of them in a short run
LOOK_WINDOWS = 24  # of the validation text; all of it at the end
PROMPT = "Once upon a time"

Progress = Callable[[float, str], None]
Report = Callable[[str], None]


def train(
    texts: Path,
    directory: Path,
    settings: Settings,
    machine: Machine,
    *,
    progress: Progress = lambda share, what: None,
    report: Report = lambda line: None,
    stop: Callable[[int], bool] = lambda steps: False,
) -> bool:
    """Begin, resume or finish the run of a directory.

    Parameters
    ----------
    texts
        A folder of .txt files.
    progress
        Called after each step with the share of the run that is done, and a few words.
    report
        Called with lines for people.
    stop
        Called after each step with their number; True saves the state and ends for now.

    Returns
    -------
    bool
        Whether the run is finished.

    Raises
    ------
    RyzansteinError
        From reading the texts and the directory.
    """
    run = Run(texts, RunDirectory(directory), settings, machine, report)
    if not run.train(progress, stop):
        return False
    run.finish()
    return True


class Run:
    """One run. See `train`."""

    def __init__(
        self,
        texts: Path,
        directory: RunDirectory,
        settings: Settings,
        machine: Machine,
        report: Report,
    ) -> None:
        corpus = read_corpus(texts, settings.validation)
        directory.check(settings, corpus.digest)
        state = directory.load_state()
        self.directory, self.machine, self.report = directory, machine, report
        origin = None if state else origin_of(settings)
        if state:
            self.tokenizer = directory.tokenizer()
        else:
            self.tokenizer = tokenizer_of(settings, origin, list(corpus.training.values()))
        shape = dataclasses.replace(
            settings.shape, vocabulary=self.tokenizer.get_vocab_size()
        )  # a small corpus gives fewer tokens than wanted
        self.settings = dataclasses.replace(settings, shape=shape)
        self.lengths = vocabulary.byte_lengths(self.tokenizer)
        ids = vocabulary.encode(self.tokenizer, list(corpus.training.values()))
        (self.validation,) = vocabulary.encode(self.tokenizer, [corpus.validation])
        windows = Windows(ids, shape.context, vocabulary.BOS_ID, vocabulary.EOS_ID, settings.seed)
        model = build(shape, settings.ternary, settings.dropout, settings.seed)
        if origin is not None:
            model.load_state_dict(origin.weights)
        teachers = []
        if settings.teacher_weight:  # else they lend their tokenizer only
            teachers = [teacher_of(Path(path), self.settings) for path in settings.teachers]
        self.trainer = Trainer(model.to(machine.device), teachers, windows, self.settings, machine)
        # Only now, so that what is wrong with other files leaves no directory behind.
        directory.claim(settings, corpus.digest)
        self.tokenizer.save(str(directory.tokenizer_file), pretty=False)
        directory.validation_file.write_text(corpus.validation, encoding="utf-8")
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self._looked, self._look_seconds = 0.0, 0.0  # when, and how long it took
        if state:
            self.trainer.restore(state["trainer"])
            self.seconds, self.history = state["seconds"], state["history"]
            self.best = state["best"]
        parameters = sum(parameter.numel() for parameter in model.parameters())
        report(
            f"{machine.name}; {parameters / 1e6:.2f} M parameters, vocabulary {shape.vocabulary}; "
            f"{windows.rows_per_epoch * shape.context:,} tokens an epoch, "
            f"{self.settings.tokens_per_step:,} a step"
            + (f"; resumed after {self.trainer.steps} steps" if self.trainer.steps else "")
        )
        if origin is not None:
            found = self._score()
            self._keep(found)
            report(f"begins with {found.bits_per_byte:.4f} bits a byte of validation")

    @property
    def share(self) -> float:
        """Of the run that is done, 0 to 1."""
        return self.settings.budget.progress(self.trainer.steps, self.seconds)

    def train(self, progress: Progress, stop: Callable[[int], bool]) -> bool:
        """Steps until the budget is used up. False: `stop` ended them, and the state is saved."""
        trainer, losses = self.trainer, []
        # The first step of a process compiles: its time is nobody's training.
        clock: float | None = None
        while self.share < 1:
            share = self.share
            losses.append(trainer.step(share))
            now = time.monotonic()
            if clock is not None:
                self.seconds += now - clock
            clock = now
            progress(self.share, self._words(losses[-1]))
            if self._look_is_due(now):
                self._look(losses)
                losses = []
                self._looked, self._look_seconds = time.monotonic(), time.monotonic() - now
            if stop(trainer.steps) and self.share < 1:
                self._save()
                self.report(f"stopped after {trainer.steps} steps; the same command goes on")
                return False
        return True

    def _look_is_due(self, now: float) -> bool:
        before = self.history[-1]["share"] if self.history else 0.0
        if self.share < 1 and int(self.share * LOOKS) == int(before * LOOKS):
            return False
        # In a run of so many steps, looks are a matter of steps alone.
        rare = now - self._looked >= self._look_seconds / LOOK_SHARE
        return self.share >= 1 or rare or self.settings.budget.minutes is None

    def _words(self, loss: float) -> str:
        speed = self.trainer.tokens / self.seconds if self.seconds else 0.0
        left = self.seconds / self.share * (1 - self.share) / 60 if self.share else 0.0
        found = f", {self.history[-1]['bits_per_byte']:.4f} bits/byte" if self.history else ""
        return f"loss {loss:.3f}{found}, {speed:,.0f} tokens/s, {left:.0f} min left"

    def _look(self, losses: list[float]) -> None:
        """Validate, note, keep the best, save; now and then a sample."""
        trainer, found = self.trainer, self._score()
        row = {
            "steps": trainer.steps,
            "tokens": trainer.tokens,
            "epochs": round(trainer.windows.epochs(trainer.rows), 3),
            "seconds": round(self.seconds, 1),
            "share": self.share,
            "learning_rate": learning_rate(self.share, self.settings),
            "loss": sum(losses) / len(losses),
            "bits_per_byte": found.bits_per_byte,
        }
        before = self.history[-1]["share"] if self.history else 0.0
        self.history.append(row)
        self._keep(found)
        self._save()
        if int(self.share * SAMPLES) > int(before * SAMPLES):
            text = continue_text(trainer.model, self.tokenizer, PROMPT, seed=self.settings.seed)
            head = (
                f"[{row['steps']} steps, {row['epochs']:.2f} epochs: loss {row['loss']:.3f}, "
                f"{row['bits_per_byte']:.4f} bits a byte of validation]"
            )
            self.report(f"{head}\n{text}\n")
            with self.directory.samples_file.open("a", encoding="utf-8") as file:
                file.write(f"{head}\n{text}\n\n")

    def _score(self) -> Score:
        """Of a part of the validation text."""
        with self.machine.autocast():
            return score(
                self.trainer.model,
                self.validation,
                vocabulary.BOS_ID,
                self.lengths,
                windows=LOOK_WINDOWS,
            )

    def _keep(self, found: Score) -> None:
        """The weights as they are, if they are the best so far."""
        if not self.best or found.bits_per_byte < self.best["bits_per_byte"]:
            self.best = {
                "steps": self.trainer.steps,
                "tokens": self.trainer.tokens,
                "bits_per_byte": found.bits_per_byte,
                "weights": self.trainer.weights(),
            }

    def _save(self) -> None:
        self.directory.save_state(
            {
                "trainer": self.trainer.state(),
                "seconds": self.seconds,
                "history": self.history,
                "best": self.best,
            }
        )
        rows = "".join(json.dumps(row) + "\n" for row in self.history)
        self.directory.log_file.write_text(rows, encoding="utf-8")
        if self.history:
            plot_history(self.directory.plot_file, self.history)

    def finish(self) -> None:
        """The best model as it was on the validation text: its checkpoints and figures."""
        model = copy.deepcopy(self.trainer.model)
        # in the numbers that will be on disk: rounding moves a few masters across a threshold
        model.load_state_dict(rounded_to_bfloat16(self.best["weights"]))
        found = score(model, self.validation, vocabulary.BOS_ID, self.lengths)
        last = self.history[-1]
        results = {
            "bits_per_byte": found.bits_per_byte,
            "perplexity": found.perplexity,
            "validation_tokens": found.tokens,
            "validation_bytes": found.text_bytes,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "vocabulary": self.settings.shape.vocabulary,
            "tokens": last["tokens"],
            "epochs": last["epochs"],
            "minutes": last["seconds"] / 60,
            "best_steps": self.best["steps"],
            "steps": last["steps"],
            "machine": self.machine.name,
        }
        if self.settings.ternary:
            write_checkpoints(
                self.directory, self.best["weights"], self.settings.shape, self.tokenizer
            )
        self.directory.write_json(self.directory.results_file, results)
        self.report(
            f"{found.bits_per_byte:.4f} bits a byte, perplexity {found.perplexity:.2f} on "
            f"{found.tokens:,} held-out tokens, after {self.best['steps']} of {last['steps']} steps"
        )
