"""The fast gradient sign method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Attack, Budget, SampleRandom, param
from advbench_attacks import foolbox_engine

__all__ = ["FastGradientSign"]


@dataclass(frozen=True)
class FastGradientSign(Attack):
    """One step of size eps along the sign of the loss's gradient.

    x' = clip(x + eps · sign(∇ₓ cross-entropy(x, y)), 0, 1). Deterministic.
    """

    name: ClassVar[str] = "fgsm"
    source: ClassVar[str] = (
        "Goodfellow, Shlens and Szegedy 2015, Explaining and Harnessing Adversarial Examples, section 4"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON

    eps: float = param(0.3, min=0, help="largest change of a pixel, images being in [0, 1]")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        del rng
        attack = foolbox_engine.load().attacks.LinfFastGradientAttack(random_start=False)
        return foolbox_engine.maximise(attack, model, images, labels, self.eps)

    def budget(self) -> Budget:
        """The L∞ ball of radius eps."""
        return Budget("linf", self.eps)

    def passes(self) -> int:
        """One gradient."""
        return 1
