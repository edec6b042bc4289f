"""The fast gradient sign method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Artefact, Goal, Norm, SampleRandom, goal_param, param
from advbench_attacks.balls import Ball
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.foolbox2.fgsm import foolbox2_fgsm
from advbench_attacks.gradient.fgsm_minimal import smallest_fgsm_step
from advbench_attacks.gradient.fixed_or_minimal import FixedOrMinimalAttack
from advbench_attacks.gradient.pgd_steps import take_pgd_steps
from advbench_attacks.losses import LOSSES

__all__ = ["FastGradientSign"]


@dataclass(frozen=True)
class FastGradientSign(FixedOrMinimalAttack):
    """One step of size eps along the sign of the loss's gradient.

    x' = clip(x + eps · sign(∇ₓ loss(x, y)), 0, 1). With ``norm=l2``, the fast gradient method, the direction is ∇ₓ
    loss/‖∇ₓ loss‖₂. Deterministic. ``loss=ce`` is the cross-entropy, computed so that its gradient does not vanish
    where the model is confident; ``dlr`` is the difference of logits ratio, for models with at least 3 classes;
    ``margin`` is max_{j≠y} zⱼ − z_y. ``engine=foolbox`` runs Foolbox's implementation; the result is the same unless
    its float32 cross-entropy vanishes. With a ``goal``, the step raises minus the loss of the target class t;
    ``margin`` is then zₜ − max_{j≠t} zⱼ, and ``dlr`` the targeted ratio.

    ``search=minimal`` divides max_eps into 1,000 equal parts and returns the smallest adversarial multiple. If none is
    adversarial and max_eps is 1, the sample gets the shortest adversarial step along sign(∇ₓ(zⱼ − z_y)) for another
    class j; with a ``goal``, along the sign of the gradient of zₜ − max_{j≠t} zⱼ.

    ``search=foolbox2`` is the search of Foolbox 2.3.0, to reproduce results computed with it: it tries the same 1,000
    multiples along the sign of the float32 cross-entropy's gradient. Where one of the first twenty is adversarial, it
    tries twenty equal parts of it instead. A sample that is never fooled keeps its clean image.
    """

    name: ClassVar[str] = "fgsm"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Goodfellow, Shlens and Szegedy 2015, Explaining and Harnessing Adversarial Examples, section 4; loss=dlr: "
        "Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free "
        "attacks, equation 6"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON
    modes_of: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **FixedOrMinimalAttack.modes_of,
        "max_eps": ("minimal", "foolbox2"),
    }
    native_only: ClassVar[Mapping[str, str]] = {
        **FixedOrMinimalAttack.native_only,
        "norm": "; use engine=native or foolbox:attack=L2FastGradientAttack",
    }

    eps: float = param(0.3, min=0, help="largest norm of the perturbation, for images in [0, 1]")
    search: str = param(
        "none",
        choices=("none", "minimal", "foolbox2"),
        help="none: use eps; minimal: find the smallest adversarial eps; foolbox2: the same as in Foolbox 2.3.0",
    )
    max_eps: float = param(1.0, above=0, max=1, help="largest eps to try, with a search")
    engine: str = param("native", choices=("native", "foolbox"), help="implementation to run, with search=none")
    norm: str = param("linf", choices=("linf", "l2"), help="norm of the perturbation, with search=none")
    loss: str = param(
        "ce",
        choices=LOSSES,
        help="loss to maximise, with search=none: cross-entropy, difference of logits ratio, or the margin of the "
        "largest other logit",
    )
    goal: str = goal_param()

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.craft`.

        Raises:
            ContractError: The model has too few classes for the loss.
        """
        del rng, fitted
        if self.search == "foolbox2":
            return foolbox2_fgsm(model, images, goal.labels, self.max_eps)
        if self.search == "minimal":
            return smallest_fgsm_step(model, images, goal, self.max_eps)
        if self.engine == "foolbox":
            attacks = foolbox_engine.load().attacks
            attack = attacks.LinfFastGradientAttack(random_start=False)
            if goal.targeted:  # Foolbox's FGSM refuses targets; one step of BIM is the same
                attack = attacks.LinfBasicIterativeAttack(rel_stepsize=1.0, steps=1, random_start=False)
            return foolbox_engine.run_fixed_budget(attack, model, images, goal, self.eps)
        ball = Ball(cast(Norm, self.norm), self.eps)
        return take_pgd_steps(model, images, goal, images, ball=ball, steps=1, step_size=self.eps, loss=self.loss)

    def passes(self) -> int:
        """Returns one gradient; a search adds about 200 forward passes, a third of a gradient each."""
        return 1 if self.search == "none" else 70
