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
from .schedule import learning_rate, weight_decay
from .settings import Settings
from .windows import Windows

__all__ = ["Trainer"]

BETAS = (0.9, 0.95)


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
        self._loss: Any = torch.compile(objective) if machine.compiled else objective
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim == 1]
        self._decayed = {"params": matrices}
        # norms are not pulled to zero: what they multiply would vanish
        self._optimizer = torch.optim.AdamW(
            [self._decayed, {"params": vectors}], betas=BETAS, weight_decay=0.0, fused=True
        )
        torch.manual_seed(settings.seed)  # of dropout

    @property
    def rows(self) -> int:
        """Rows seen so far."""
        return self.steps * self.settings.rows * self.settings.accumulate

    @property
    def tokens(self) -> int:
        """Tokens seen so far."""
        return self.rows * self.settings.shape.context

    def step(self, progress: float) -> float:
        """One step at `progress` 0 to 1 of the schedule. Returns the mean surprise at the text,
        in nats a token."""
        rate = learning_rate(progress, self.settings)
        decay = weight_decay(progress, self.settings)
        for group, its_decay in zip(self._optimizer.param_groups, (decay, 0.0), strict=True):
            group["lr"], group["weight_decay"] = rate, its_decay
        parts, total = self.settings.accumulate, 0.0
        for part in range(parts):
            batch = self.windows.batch(self.rows + part * self.settings.rows, self.settings.rows)
            inputs, targets = (torch.from_numpy(ids).to(self.machine.device) for ids in batch)
            with self.machine.autocast():
                loss, text_loss = self._loss(inputs, targets)
            (loss / parts).backward()
            total += text_loss.item() / parts
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return total

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the weights, on the CPU."""
        return {
            name: copy.deepcopy(tensor.cpu()) for name, tensor in self.model.state_dict().items()
        }

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on as if there had been no interruption."""
        random = {"cpu": torch.get_rng_state()}
        if self.machine.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.machine.device)
        return {
            "steps": self.steps,
            "weights": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": random,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to what `state()` gave."""
        self.steps = state["steps"]
        self.model.load_state_dict(state["weights"])
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.machine.device.type == "cuda" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.machine.device)
