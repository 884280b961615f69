"""What is minimised: surprise at the text, and the distance from teachers if there are any."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from .model import BitNet

__all__ = ["Objective"]


class Objective(nn.Module):
    """`forward(inputs, targets)`, both (rows, length): the loss, and the part of it that the text
    alone gives, in nats a token.

    With teachers the loss is `(1 - weight)` of that part and `weight` of the cross-entropy with
    the mean of the teachers' probabilities. Its gradient is that of the divergence from them.
    """

    def __init__(self, model: BitNet, teachers: Sequence[BitNet] = (), weight: float = 0.5) -> None:
        super().__init__()
        self.model, self.teachers, self.weight = model, nn.ModuleList(teachers), weight
        self.teachers.requires_grad_(False)

    def train(self, mode: bool = True) -> Objective:
        super().train(mode)
        self.teachers.eval()  # teachers answer without dropout
        return self

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model(inputs).float().flatten(0, 1)
        text = functional.cross_entropy(logits, targets.flatten())
        if not len(self.teachers):
            return text, text.detach()
        with torch.no_grad():
            answers = [
                teacher(inputs).float().flatten(0, 1).softmax(-1) for teacher in self.teachers
            ]
            wanted = torch.stack(answers).mean(0)
        taught = functional.cross_entropy(logits, wanted)
        return (1 - self.weight) * text + self.weight * taught, text.detach()
