"""The fast gradient sign method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Norm, SampleRandom, param
from advbench_attacks.balls import Ball
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.gradient.eps_search import EpsSearch
from advbench_attacks.gradient.fgsm_minimal import first_on_ray
from advbench_attacks.gradient.pgd_steps import sign_steps
from advbench_attacks.logit_differences import LOSSES

__all__ = ["FastGradientSign"]


@dataclass(frozen=True)
class FastGradientSign(EpsSearch):
    """One step of size eps along the sign of the loss's gradient.

    x' = clip(x + eps · sign(∇ₓ loss(x, y)), 0, 1); with ``norm=l2``, the fast gradient method, the direction is
    ∇ₓ loss/‖∇ₓ loss‖₂. Deterministic. ``loss=ce`` is the cross-entropy, whose direction is computed so that it does not
    vanish where the model is sure; ``dlr`` the difference of logits ratio, for models of 3 classes or more; ``margin``
    is max_{j≠y} zⱼ − z_y. With ``engine=foolbox`` Foolbox's implementation runs, with the same result where its float32
    cross-entropy does not vanish.

    With ``search=minimal`` each sample gets the first of the 1,000 equal parts of max_eps that fools the model, as
    in Foolbox 2.3. At max_eps 1, a sample that none of them fools gets the shortest such step along
    sign(∇ₓ(zⱼ − z_y)) towards another class j instead.
    """

    name: ClassVar[str] = "fgsm"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Goodfellow, Shlens and Szegedy 2015, Explaining and Harnessing Adversarial Examples, section 4; loss=dlr: "
        "Croce and Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free "
        "attacks, equation 6"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON
    only_native: ClassVar[Mapping[str, str]] = {
        **EpsSearch.only_native,
        "norm": "; use engine=native or foolbox:attack=L2FastGradientAttack",
    }

    eps: float = param(0.3, min=0, help="largest perturbation in the norm, images being in [0, 1]")
    search: str = param(
        "none", choices=("none", "minimal"), help="none: step by eps; minimal: by the smallest eps that fools the model"
    )
    max_eps: float = param(1.0, above=0, max=1, help="largest eps that search=minimal tries")
    engine: str = param("native", choices=("native", "foolbox"), help="whose implementation runs, with search=none")
    norm: str = param("linf", choices=("linf", "l2"), help="the norm of the perturbation, with search=none")
    loss: str = param(
        "ce",
        choices=LOSSES,
        help="what rises, with search=none: the cross-entropy, the difference of logits ratio, or the largest other "
        "logit less the true class's",
    )

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`.

        Raises:
            ContractError: The model has too few classes for the loss.
        """
        del rng
        if self.search == "minimal":
            return first_on_ray(model, images, labels, self.max_eps)
        if self.engine == "foolbox":
            attack = foolbox_engine.load().attacks.LinfFastGradientAttack(random_start=False)
            return foolbox_engine.maximise(attack, model, images, labels, self.eps)
        ball = Ball(cast(Norm, self.norm), self.eps)
        return sign_steps(model, images, labels, images, ball=ball, steps=1, step_size=self.eps, loss=self.loss)

    def passes(self) -> int:
        """One gradient; a search takes some 200 forward passes more, a third of a pass each."""
        return 70 if self.search == "minimal" else 1
