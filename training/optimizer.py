"""Updates of the weights: Muon for the matrices of the layers, AdamW for all else.

Muon makes an update of all directions of a matrix alike, where Adam's is mostly a few of them (K.
Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024). Its updates are
scaled to the size of AdamW's, so that both take the same rate and decay (J. Liu et al., "Muon is
Scalable for LLM Training", 2025, arXiv 2502.16982).
"""

from __future__ import annotations

from typing import Any

import torch

from .model import BitNet, is_projection

__all__ = ["Optimizer"]

BETAS = (0.9, 0.95)


class Optimizer:
    """Of one model.

    Parameters
    ----------
    model : BitNet
    name : str
        "muon", or "adamw" for AdamW throughout.
    """

    def __init__(self, model: BitNet, name: str) -> None:
        named = list(model.named_parameters())
        orthogonal = [p for n, p in named if name == "muon" and is_projection(n)]
        others = [p for n, p in named if name != "muon" or not is_projection(n)]
        # norms are not pulled to zero: what they multiply would vanish
        vectors = {"params": [p for p in others if p.ndim == 1], "decays": False}
        matrices = {"params": [p for p in others if p.ndim > 1], "decays": True}
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW([matrices, vectors], betas=BETAS, weight_decay=0.0, fused=True)
        ]
        if orthogonal:
            self._parts.append(
                torch.optim.Muon(
                    [{"params": orthogonal, "decays": True}], adjust_lr_fn="match_rms_adamw"
                )
            )

    def step(self, rate: float, decay: float) -> None:
        """Update the weights with their gradients, and drop those."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"], group["weight_decay"] = rate, decay if group["decays"] else 0.0
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """For `load_state_dict`."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go back to what `state_dict` gave."""
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)
