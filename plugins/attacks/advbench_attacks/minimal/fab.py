"""The fast adaptive boundary attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Attack, Norm, SampleRandom, param
from advbench_attacks.minimal.fab_search import AdaptiveBoundary

__all__ = ["TargetedFab"]


@dataclass(frozen=True)
class TargetedFab(Attack):
    """Steps to the linearised boundary with one class after another, drawn back towards the clean image.

    A minimal attack: for each sample it returns the nearest point found that fools the model. The classes are the
    likeliest at the clean image, the true one left out; all of them where there are fewer than ``targets``.
    Deterministic.
    """

    name: ClassVar[str] = "fab-t"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Croce and Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary attack, "
        "algorithm 1; targeted as in their Reliable evaluation of adversarial robustness (2020)"
    )

    norm: str = param("linf", choices=("linf", "l2"), help="the norm to keep small")
    targets: int = param(9, min=1, help="towards how many of the likeliest other classes")
    steps: int = param(100, min=1, help="number of steps a class")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        del rng
        return AdaptiveBoundary(
            model, images, labels, steps=self.steps, targets=self.targets, norm=self.minimises()
        ).run()

    def minimises(self) -> Norm:
        """The norm that is given."""
        return cast(Norm, self.norm)

    def passes(self) -> int:
        """A gradient and a forward pass a step and class."""
        return self.steps * self.targets * 4 // 3
