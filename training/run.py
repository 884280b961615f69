"""A run: prepare, compile, train with a look at the model now and then."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ryzanstein_llm.errors import InvalidParameterError

from . import vocabulary
from .continuation import continue_text
from .corpus import read_corpus
from .directory import RunDirectory
from .evaluation import Score, score
from .heritage import origin_of, teacher_of, tokenizer_of
from .machine import Machine
from .model import build
from .pace import Pace
from .plot import plot_history
from .prompts import text_prompts
from .schedule import learning_rate
from .settings import Settings
from .trainer import Trainer
from .windows import Windows
from .words import count, duration

__all__ = ["Run"]

LOOKS = 40  # at the model during a run: validation, files
SAMPLES = 10  # of which so many print a sample
LOOK_SHARE = 0.05  # of the time is for looks, at most: fewer of them in a short run
LOOK_WINDOWS = 24  # of the validation text; all of it at the end

Progress = Callable[[float, str], None]
Report = Callable[[str], None]


class Run:
    """The run of a directory: `compile`, then `train`; if that returned True, `finish.finish`.

    Parameters
    ----------
    texts
        A folder of .txt files.
    directory
        Where the run is, or will be.
    report
        Called with lines for people.
    prompts
        The first is continued for samples while training; by default, beginnings of held-out
        paragraphs.

    Attributes
    ----------
    prompts : list of str

    Raises
    ------
    RyzansteinError
        From reading the texts, the directory, and what the settings name.
    """

    def __init__(
        self,
        texts: Path,
        directory: RunDirectory,
        settings: Settings,
        machine: Machine,
        report: Report = lambda line: None,
        prompts: Sequence[str] = (),
    ) -> None:
        corpus = read_corpus(texts, settings.validation)
        directory.check(settings, corpus.digest)
        state = directory.load_state()
        self.directory, self.machine, self.report = directory, machine, report
        self.facts = corpus.facts
        self.prompts = list(prompts) or text_prompts(corpus.validation)
        report(f"{texts}: {corpus}")
        if corpus.empty:
            report(f"without text: {', '.join(corpus.empty)}")
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
        try:
            windows = Windows(
                ids, shape.context, vocabulary.BOS_ID, vocabulary.EOS_ID, settings.seed
            )
        except InvalidParameterError as error:
            raise InvalidParameterError(f"{texts}: {error}") from None
        model = build(shape, settings.ternary, settings.dropout, settings.seed)
        if origin is not None:
            model.load_state_dict(origin.weights)
        teachers = []
        if settings.teacher_weight:  # else they lend their tokenizer only
            teachers = [
                teacher_of(Path(path), self.settings, corpus.validation)
                for path in settings.teachers
            ]
        self.trainer = Trainer(model.to(machine.device), teachers, windows, self.settings, machine)
        # Only now, so that what is wrong with other files leaves no directory behind.
        directory.claim(settings, corpus.digest)
        self.tokenizer.save(str(directory.tokenizer_file), pretty=False)
        directory.validation_file.write_text(corpus.validation, encoding="utf-8")
        self.pace = Pace(settings.budget)
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self._looked, self._look_seconds = 0.0, 0.0  # when, and how long it took
        if state:
            self.trainer.restore(state["trainer"])
            self.pace = Pace(settings.budget, state["seconds"])
            self.history, self.best = state["history"], state["best"]
        parameters = sum(parameter.numel() for parameter in model.parameters())
        report(
            f"{parameters / 1e6:.2f} million parameters, vocabulary of {shape.vocabulary:,}, "
            f"on {machine.name}"
        )
        report(
            f"{windows.rows_per_epoch * shape.context:,} tokens an epoch, "
            f"{self.settings.tokens_per_step:,} a step, {settings.budget} of training"
        )
        if self.trainer.steps:
            report(
                f"resumed after {count(self.trainer.steps, 'step')}, {self.share:.0%} of the run"
            )
        if origin is not None:
            found = self._score()
            self._keep(found)
            report(f"held-out text before training: {found.bits_per_byte:.4f} bits a byte")

    @property
    def share(self) -> float:
        """Of the run that is done, 0 to 1."""
        return self.settings.budget.progress(self.trainer.steps, self.pace.seconds)

    def compile(self) -> None:
        """Compile the step with torch.compile, if the machine does; takes part of no budget."""
        if not self.machine.compiled or self.share >= 1:
            return
        self.report("compiling the training step; --no-compile starts at once, and is slower")
        begin = time.monotonic()
        error = self.trainer.compile(self.share)
        took = duration(time.monotonic() - begin)
        if error is None:
            self.report(f"compiled in {took}, which does not count as training")
        else:
            reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
            self.report(f"torch.compile failed after {took}, going on without it: {reason[0]}")

    def train(
        self,
        progress: Progress = lambda share, what: None,
        stop: Callable[[int], bool] = lambda steps: False,
    ) -> bool:
        """Steps until the budget is used up.

        Parameters
        ----------
        progress
            Called after each step with the share of the run that is done, and a few words.
        stop
            Called after each step with their number; True saves the state and ends for now.

        Returns
        -------
        bool
            False: `stop` ended it.
        """
        trainer, losses = self.trainer, []
        clock = time.monotonic()
        while self.share < 1:
            losses.append(trainer.step(self.share))
            now = time.monotonic()
            self.pace.add(now - clock)
            clock = now
            left = duration(self.pace.left(trainer.steps))
            progress(self.share, f"{left} left, loss {losses[-1]:.2f}")
            if self._look_is_due(now):
                self._look(losses)
                losses = []
                self._looked, self._look_seconds = time.monotonic(), time.monotonic() - now
            if stop(trainer.steps) and self.share < 1:
                self._save()
                self.report(f"stopped and saved after {count(trainer.steps, 'step')}, {left} left")
                return False
        return True

    def _look_is_due(self, now: float) -> bool:
        before = self.history[-1]["share"] if self.history else 0.0
        if self.share < 1 and int(self.share * LOOKS) == int(before * LOOKS):
            return False
        # In a run of so many steps, looks are a matter of steps alone.
        rare = now - self._looked >= self._look_seconds / LOOK_SHARE
        return self.share >= 1 or rare or self.settings.budget.minutes is None

    def _look(self, losses: list[float]) -> None:
        """Validate, note, keep the best, save; now and then a sample."""
        trainer, found = self.trainer, self._score()
        row = {
            "steps": trainer.steps,
            "tokens": trainer.tokens,
            "epochs": round(trainer.windows.epochs(trainer.rows), 3),
            "seconds": round(self.pace.seconds, 1),
            "share": self.share,
            "learning_rate": learning_rate(self.share, self.settings),
            "loss": sum(losses) / len(losses),
            "bits_per_byte": found.bits_per_byte,
        }
        before = self.history[-1]["share"] if self.history else 0.0
        self.history.append(row)
        self._keep(found)
        self._save()
        speed = self.settings.tokens_per_step / (self.pace.step_seconds or float("inf"))
        self.report(
            f"{self.share:4.0%}: loss {row['loss']:.3f}, {row['bits_per_byte']:.4f} bits a byte, "
            f"{speed:,.0f} tokens/s, {duration(self.pace.left(trainer.steps))} left"
        )
        if int(self.share * SAMPLES) > int(before * SAMPLES):
            self._sample(f"{count(trainer.steps, 'step')}, {row['epochs']:.2f} epochs")

    def _sample(self, title: str) -> None:
        model, prompt = self.trainer.model, self.prompts[0]
        text = continue_text(model, self.tokenizer, prompt, seed=self.settings.seed)
        self.report(f"\n{text}\n")
        with self.directory.samples_file.open("a", encoding="utf-8") as file:
            file.write(f"[{title}]\n{text}\n\n")

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
                "seconds": self.pace.seconds,
                "history": self.history,
                "best": self.best,
            }
        )
        rows = "".join(json.dumps(row) + "\n" for row in self.history)
        self.directory.log_file.write_text(rows, encoding="utf-8")
        if self.history:
            plot_history(self.directory.plot_file, self.history)
