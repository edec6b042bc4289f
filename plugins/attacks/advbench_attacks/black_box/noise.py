"""Random noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Access, Attack, Budget, Norm, ParameterError, SampleRandom, for_rows, param
from advbench_attacks.answers import ask
from advbench_attacks.input_gradients import lead
from advbench_attacks.minimal_steps import unit

__all__ = ["RandomNoise"]

_NORMS: dict[str, Norm] = {"uniform": "linf", "gaussian": "l2", "salt-and-pepper": "l0"}


@dataclass(frozen=True)
class RandomNoise(Attack):
    """Noise of a given size that asks nothing of the model's gradients: the floor that any attack must beat.

    - ``uniform``: every value of the image changes by a number drawn uniformly from [-eps, eps] (L∞).
    - ``gaussian``: a perturbation in a direction drawn uniformly, that of Gaussian noise, of L2 norm eps (L2).
    - ``salt-and-pepper``: eps values drawn at random, a value being one channel of one pixel, become 0 or 1, each half
      of the time (L0).

    Each is clipped to [0, 1]. Several draws can be tried: the first that fools the model is kept, or else the last.
    """

    name: ClassVar[str] = "noise"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Rauber, Brendel and Bethge 2017, Foolbox, decision-based attacks; for the direction drawn uniformly Fawzi, "
        "Moosavi-Dezfooli and Frossard 2016, Robustness of classifiers: from adversarial to random noise"
    )

    access: ClassVar[Access] = "nothing"

    kind: str = param("uniform", choices=tuple(_NORMS), help="the distribution, which decides the norm of eps")
    eps: float = param(0.3, min=0, help="largest perturbation: in L∞, in L2 or, for salt-and-pepper, how many values")
    queries: int = param(1, min=1, help="largest number of draws a sample")

    def __post_init__(self) -> None:
        """Checks every parameter, and that salt-and-pepper changes a whole number of values.

        Raises:
            ParameterError: A value is not allowed.
        """
        super().__post_init__()
        if self.kind == "salt-and-pepper" and not self.eps.is_integer():
            raise ParameterError(f"eps={self.eps:g}: with kind=salt-and-pepper it counts values; give a whole number")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`. A single draw asks the model nothing."""
        crafted = self._noisy(images, rng)
        rows = torch.arange(len(images), device=images.device)
        for _ in range(self.queries - 1):
            with torch.no_grad():
                logits = ask(for_rows(model, rows), crafted[rows])
            rows = rows[~lead(logits, labels[rows])]
            if not len(rows):
                break
            crafted[rows] = self._noisy(images[rows], rng[rows])
        return crafted

    def budget(self) -> Budget:
        """The ball of radius eps in the norm of the kind."""
        return Budget(_NORMS[self.kind], self.eps)

    def passes(self) -> int:
        """At most a forward pass a draw but the last, a third of a pass each."""
        return (self.queries - 1) // 3

    def _noisy(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """The images with noise drawn anew from their samples' streams."""
        shape = images.shape[1:]
        if self.kind == "uniform":
            noise = rng.uniform(*shape, low=-self.eps, high=self.eps).to(images.device)
        elif self.kind == "gaussian":
            noise = self.eps * unit(rng.normal(*shape).to(images.device))
        else:
            ranks = rng.uniform(*shape).flatten(1).argsort(dim=1).argsort(dim=1).to(images.device)
            grains = rng.bernoulli(0.5, *shape).to(images)
            return torch.where(ranks.reshape(images.shape) < self.eps, grains, images)
        return (images + noise).clamp(0, 1)
