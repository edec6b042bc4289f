"""DeepFool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Artefact, Goal, Norm, SampleRandom, param
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.foolbox2.deepfool import foolbox2_deepfool
from advbench_attacks.goals import UntargetedAttack
from advbench_attacks.minimal.deepfool_search import DeepFoolSearch
from advbench_attacks.modes import AttackWithModes

__all__ = ["DeepFool"]


@dataclass(frozen=True)
class DeepFool(UntargetedAttack, AttackWithModes):
    """Steps to the nearest linearised class boundary until one is crossed.

    A minimal attack: for an affine classifier it returns the closest misclassified point, times 1 + overshoot.
    Deterministic. ``engine=foolbox`` runs Foolbox's implementation, which goes another 1e-4 beyond each boundary. Here,
    that is at most a ten-thousandth of the distance, and nothing at the first step if the overshoot is at least as
    large. Otherwise the results are equal up to rounding.

    ``variant=foolbox2`` is the attack of Foolbox 2.3.0, to reproduce results computed with it. It takes the gradient of
    the mean loss over those samples of its batch that are still being attacked. Therefore each step is too long by a
    factor equal to the number of these samples. In addition, it lengthens every step by 5 %. So the result of a sample
    depends on the samples that are attacked together with it: ``batch`` consecutive samples of the run.
    """

    name: ClassVar[str] = "deepfool"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Moosavi-Dezfooli, Fawzi and Frossard 2016, DeepFool: a simple and accurate method to fool deep neural "
        "networks, algorithm 2; for L-infinity section 3.3"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON
    mode_parameter: ClassVar[str] = "variant"
    modes_of: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "overshoot": ("original",),
        "norm": ("original",),
        "engine": ("original",),
        "batch": ("foolbox2",),
        "reduction": ("foolbox2",),
    }
    why_inapplicable: ClassVar[Mapping[str, str]] = {
        "overshoot": ", whose steps are lengthened by 5 %",
        "norm": ", which is in L2",
    }
    why_untargeted: ClassVar[str] = "deepfool goes to the nearest class, whichever it is"
    use_instead: ClassVar[str] = "fmn"

    steps: int = param(50, min=1, help="maximum number of steps")
    candidates: int = param(
        10, min=2, help="number of candidate classes, those with the largest logits, including the predicted one"
    )
    overshoot: float = param(0.02, min=0, help="how far to go past the boundary, as a share of the perturbation")
    norm: str = param("l2", choices=("l2", "linf"), help="norm to minimize")
    engine: str = param("native", choices=("native", "foolbox"), help="implementation to run")
    variant: str = param(
        "original",
        choices=("original", "foolbox2"),
        help="original: the attack of the paper; foolbox2: the attack of Foolbox 2.3.0",
    )
    batch: int = param(64, min=1, help="number of samples of a batch, on which results depend with variant=foolbox2")
    reduction: str = param(
        "mean",
        choices=("mean", "sum"),
        help="how the losses of a batch are reduced before the gradient, with variant=foolbox2; sum: as in Foolbox 2.4",
    )

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.craft`."""
        del rng, fitted
        if self.variant == "foolbox2":
            return foolbox2_deepfool(
                model, images, goal.labels, steps=self.steps, candidates=self.candidates, mean=self.reduction == "mean"
            )
        if self.engine == "native":
            return DeepFoolSearch(
                model,
                images,
                goal,
                steps=self.steps,
                candidates=self.candidates,
                overshoot=self.overshoot,
                norm=self.minimized_norm(),
            ).run()
        attacks = foolbox_engine.load().attacks
        variant = {"l2": attacks.L2DeepFoolAttack, "linf": attacks.LinfDeepFoolAttack}[self.norm]
        attack = variant(steps=self.steps, candidates=self.candidates, overshoot=self.overshoot)
        return foolbox_engine.run_minimal(attack, model, images, goal)

    @property
    def group_size(self) -> int | None:  # type: ignore[override]
        """Returns the batch on which the results of ``variant=foolbox2`` depend."""
        return self.batch if self.variant == "foolbox2" else None

    def minimized_norm(self) -> Norm:
        """Returns the norm parameter."""
        return cast(Norm, self.norm)

    def passes(self) -> int:
        """Estimates the gradients: one per candidate at first, then a few per step; a dozen steps are mostly enough."""
        steps = min(self.steps, 12)
        if self.variant == "foolbox2":
            return self.candidates * min(self.steps, 5)
        return self.candidates * steps if self.engine == "foolbox" else self.candidates + 2 * steps
