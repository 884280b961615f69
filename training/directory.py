"""The directory of a run: what it is, where it stands, what came out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from ryzanstein_llm.errors import CheckpointNotFoundError, FormatError, InvalidParameterError
from ryzanstein_llm.formats.json_file import read_json_object

from .settings import Settings

__all__ = ["RunDirectory"]


class RunDirectory:
    """
    settings.json       settings and the digest of the texts
    tokenizer.json      of this run
    validation.txt      the held-out text, cleaned
    state.pt            weights, optimiser, random numbers, history: to resume from
    log.jsonl, loss.png, samples.txt   how it went
    results.json        figures of the finished model
    packed/, bf16/      the finished model
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tokenizer_file = path / "tokenizer.json"
        self.validation_file = path / "validation.txt"
        self.log_file = path / "log.jsonl"
        self.plot_file = path / "loss.png"
        self.samples_file = path / "samples.txt"
        self.results_file = path / "results.json"
        self.packed, self.master = path / "packed", path / "bf16"
        self._settings_file, self._state_file = path / "settings.json", path / "state.pt"

    def check(self, settings: Settings, corpus_digest: str) -> None:
        """Raises `InvalidParameterError` if another run is here."""
        if not self._settings_file.exists():
            return
        differences = [
            name
            for name, value in self.settings().to_dict().items()
            if value != settings.to_dict()[name]
        ]
        if self.corpus_digest() != corpus_digest:
            differences.append("texts")
        if differences:
            raise InvalidParameterError(
                f"{self.path}: holds a run with other {', '.join(differences)}; "
                "resume it with the same options and texts, or name a new directory"
            )

    def claim(self, settings: Settings, corpus_digest: str) -> None:
        """This run is here from now on."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.write_json(
            self._settings_file, {"settings": settings.to_dict(), "corpus": corpus_digest}
        )

    def settings(self) -> Settings:
        """
        Raises
        ------
        CheckpointNotFoundError
            No run was begun here.
        FormatError
            The file is damaged.
        """
        if not self._settings_file.exists():
            raise CheckpointNotFoundError(f"{self._settings_file}: not the directory of a run")
        try:
            return Settings.from_dict(read_json_object(self._settings_file)["settings"])
        except (KeyError, TypeError) as error:
            raise FormatError(f"{self._settings_file}: damaged: {error}") from error

    def corpus_digest(self) -> str:
        """Of the texts, those held out included. Errors as of `settings`."""
        self.settings()
        return str(read_json_object(self._settings_file).get("corpus"))

    def tokenizer(self) -> Tokenizer:
        """Raises `CheckpointNotFoundError` where no run was begun."""
        if not self.tokenizer_file.exists():
            raise CheckpointNotFoundError(f"{self.tokenizer_file}: not the directory of a run")
        return Tokenizer.from_file(str(self.tokenizer_file))

    def results(self) -> dict[str, Any]:
        """Raises `CheckpointNotFoundError` where no run was finished."""
        if not self.results_file.exists():
            raise CheckpointNotFoundError(f"{self.results_file}: the run is not finished")
        return read_json_object(self.results_file)

    def load_state(self) -> dict[str, Any] | None:
        """What `save_state` wrote, on the CPU; None if nothing was saved yet."""
        if not self._state_file.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(
                self._state_file, map_location="cpu", weights_only=True
            )
        except Exception as error:  # whatever pickle and zip find wrong with it
            raise FormatError(f"{self._state_file}: damaged: {error}") from error
        return state

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace the state; a run that is killed meanwhile leaves the old one."""
        partial = self._state_file.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self._state_file)

    @staticmethod
    def write_json(path: Path, value: dict[str, Any]) -> None:
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
