"""Steps of the optimiser, and the state that they change."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .machine import Machine
from .model import BitNet
from .objective import Objective
from .optimizer import Optimizer
from .schedule import learning_rate, row_parts, weight_decay
from .settings import Settings
from .windows import Windows

__all__ = ["Trainer"]


class Trainer:
    """A model, its optimiser, and how far they have come.

    Attributes
    ----------
    model : BitNet
    steps : int
    """

    def __init__(
        self,
        model: BitNet,
        teachers: Sequence[BitNet],
        windows: Windows,
        settings: Settings,
        machine: Machine,
    ) -> None:
        self.model, self.settings, self.machine, self.windows = model, settings, machine, windows
        self.steps = 0
        objective = Objective(model, teachers, settings.teacher_weight).to(machine.device)
        self._objective = objective.train()
        self._loss: Any = objective
        self._optimizer = Optimizer(model, settings.optimizer)
        torch.manual_seed(settings.seed)  # of dropout

    @property
    def rows(self) -> int:
        """Rows seen so far."""
        return self.steps * self.settings.rows * self.settings.accumulate

    @property
    def tokens(self) -> int:
        """Tokens seen so far."""
        return self.rows * self.settings.shape.context

    def compile(self, progress: float) -> Exception | None:
        """Compile what the steps from `progress` on will run, if the machine compiles.

        Each length of rows is compiled by running it once. Weights, gradients and random numbers
        are as before afterwards. If compiling fails, steps run without it, and the error is
        returned.
        """
        if not self.machine.compiled:
            return None
        random = self._random()
        self._loss = torch.compile(self._objective, dynamic=False)
        try:
            for cut in sorted({row_parts(at, self.settings) for at in (progress, 1.0)}):
                loss, _ = self._losses(self.rows, cut)
                loss.backward()
        except Exception as error:  # of Inductor, of the C++ compiler, of a missing header
            self._loss = self._objective
            return error
        finally:
            self.model.zero_grad(set_to_none=True)
            self._set_random(random)
        return None

    def step(self, progress: float) -> float:
        """One step at `progress` 0 to 1 of the schedule. Returns the mean surprise at the text,
        in nats a token."""
        rate = learning_rate(progress, self.settings)
        decay = weight_decay(progress, self.settings)
        parts, total = self.settings.accumulate, 0.0
        cut = row_parts(progress, self.settings)
        for part in range(parts):
            loss, text_loss = self._losses(self.rows + part * self.settings.rows, cut)
            (loss / parts).backward()
            total += text_loss.item() / parts
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self._optimizer.step(rate, decay)
        self.steps += 1
        return total

    def _losses(self, done: int, cut: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Of the batch after `done` rows."""
        batch = self.windows.batch(done, self.settings.rows, cut)
        inputs, targets = (torch.from_numpy(ids).to(self.machine.device) for ids in batch)
        with self.machine.autocast():
            losses: tuple[torch.Tensor, torch.Tensor] = self._loss(inputs, targets)
        return losses

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the weights, on the CPU."""
        return {
            name: copy.deepcopy(tensor.cpu()) for name, tensor in self.model.state_dict().items()
        }

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on as if there had been no interruption."""
        return {
            "steps": self.steps,
            "weights": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": self._random(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state()` gave."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._set_random(state["random"])

    def _random(self) -> dict[str, torch.Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self.machine.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.machine.device)
        return states

    def _set_random(self, states: dict[str, torch.Tensor]) -> None:
        torch.set_rng_state(states["cpu"])
        if self.machine.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.machine.device)
