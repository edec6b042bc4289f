"""Random noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Access, Artefact, Budget, Goal, Norm, ParameterError, SampleRandom, for_rows, param
from advbench_attacks.active_sets import on_device
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.goals import UntargetedAttack
from advbench_attacks.norms import normalize_l2
from advbench_attacks.success_criterion import is_adversarial

__all__ = ["RandomNoise"]

_NORMS: dict[str, Norm] = {"uniform": "linf", "gaussian": "l2", "salt-and-pepper": "l0"}


@dataclass(frozen=True)
class RandomNoise(UntargetedAttack):
    """Random noise of a given size; the baseline that any attack should beat. It uses no gradients.

    - ``uniform``: every value of the image changes by a number drawn uniformly from [-eps, eps] (L∞).
    - ``gaussian``: a perturbation of L2 norm eps in the direction of Gaussian noise, which is uniform (L2).
    - ``salt-and-pepper``: eps values drawn at random become 0 or 1 with equal probability; a value is one channel of
      one pixel (L0).

    The result is clipped to [0, 1]. With several queries, the first adversarial draw is kept, or the last draw if none
    is.
    """

    name: ClassVar[str] = "noise"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Rauber, Brendel and Bethge 2017, Foolbox, decision-based attacks; for the direction drawn uniformly Fawzi, "
        "Moosavi-Dezfooli and Frossard 2016, Robustness of classifiers: from adversarial to random noise"
    )

    why_untargeted: ClassVar[str] = "noise does not aim at anything"
    use_instead: ClassVar[str] = "square"

    kind: str = param("uniform", choices=tuple(_NORMS), help="distribution of the noise; it decides the norm of eps")
    eps: float = param(
        0.3, min=0, help="size of the perturbation: in L∞, in L2 or, for salt-and-pepper, the number of values"
    )
    queries: int = param(1, min=1, help="maximum number of draws per sample")

    def __post_init__(self) -> None:
        """Validates the parameters; with salt-and-pepper, eps must be a whole number.

        Raises:
            ParameterError: A value is not allowed.
        """
        super().__post_init__()
        if self.kind == "salt-and-pepper" and not self.eps.is_integer():
            raise ParameterError(f"eps={self.eps:g}: with kind=salt-and-pepper it counts values; give a whole number")

    @property
    def access(self) -> Access:  # type: ignore[override]
        """What the attack needs: labels with several queries, else nothing."""
        return "labels" if self.queries > 1 else "nothing"

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.craft`. With one query, the model is not evaluated."""
        del fitted
        crafted = self._noisy(images, rng)
        rows = torch.arange(len(images), device=images.device)
        for _ in range(self.queries - 1):
            with torch.no_grad():
                logits = float32_logits(for_rows(model, rows), crafted[rows])
            unbroken = (~is_adversarial(logits, goal[rows])).cpu().nonzero().flatten()  # the streams are on the CPU
            if not len(unbroken):
                break
            rows, rng = rows[on_device(unbroken, rows)], rng[unbroken]
            crafted[rows] = self._noisy(images[rows], rng)
        return crafted

    def budget(self) -> Budget:
        """Returns the ball of radius eps in the norm of the distribution."""
        return Budget(_NORMS[self.kind], self.eps)

    def passes(self) -> int:
        """Returns one forward pass, a third of a gradient, for each draw but the last."""
        return (self.queries - 1) // 3

    def _noisy(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the images with new noise from their samples' streams."""
        shape = images.shape[1:]
        if self.kind == "uniform":
            noise = rng.uniform(*shape, low=-self.eps, high=self.eps).to(images.device)
        elif self.kind == "gaussian":
            noise = self.eps * normalize_l2(rng.normal(*shape).to(images.device))
        else:
            ranks = rng.uniform(*shape).flatten(1).argsort(dim=1).argsort(dim=1).to(images.device)
            extremes = rng.bernoulli(0.5, *shape).to(images)
            return torch.where(ranks.reshape(images.shape) < self.eps, extremes, images)
        return (images + noise).clamp(0, 1)
