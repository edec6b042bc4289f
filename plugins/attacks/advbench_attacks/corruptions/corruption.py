"""What all common corruptions share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from advbench.api import Access, Artefact, Attack, Corruption, Goal, SampleRandom, param, widest_float

__all__ = ["SOURCE", "CommonCorruption"]

SOURCE = (
    "Hendrycks and Dietterich 2019, Benchmarking neural network robustness to common corruptions and perturbations; "
    "severities of CIFAR-10-C, regenerated"
)

_DUST = 1e-3
"""Share of a level up to which a value counts as the level above, since cutting off would turn 7 - 1e-6 into 6."""


@dataclass(frozen=True)
class CommonCorruption(Attack):
    """A corruption of five severities. A subclass defines :meth:`corrupt` and the constants of its severities.

    Attributes:
        constants: The constants of the severities from 1 to 5.
    """

    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = SOURCE
    access: ClassVar[Access] = "nothing"
    constants: ClassVar[tuple[Any, ...]] = ()

    severity: int = param(3, min=1, max=5, help="strength of the corruption, from 1 to 5")

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Corrupts images before they are clipped and stored with 8 bits.

        Args:
            images: float64 in [0, 1], shape (batch, channels, height, width); float32 on a device without float64.
            rng: The samples' random streams.

        Returns:
            Images of the same shape and dtype, of any range.
        """
        raise NotImplementedError

    def perturbation(self) -> Corruption:
        """Returns the corruption's severity."""
        return Corruption(self.severity)

    def passes(self) -> int:
        """Returns 0: the model is not evaluated."""
        return 0

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor:
        """Corrupts one batch. As in the published files, the 256 levels of 8 bits are reached by cutting off."""
        del model, goal, fitted
        corrupted = self.corrupt(images.to(widest_float(images.device)), rng).clamp(0, 1)
        return (corrupted * 255 + _DUST).floor().float() / 255  # the values that the store keeps as 8 bits

    @property
    def _constant(self) -> Any:
        """The constants of the severity."""
        return self.constants[self.severity - 1]
