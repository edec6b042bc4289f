"""The fast gradient sign method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import SampleRandom, param
from advbench_attacks import foolbox_engine
from advbench_attacks.eps_search import EpsSearch
from advbench_attacks.ray_search import first_on_ray
from advbench_attacks.sign_steps import sign_steps

__all__ = ["FastGradientSign"]


@dataclass(frozen=True)
class FastGradientSign(EpsSearch):
    """One step of size eps along the sign of the loss's gradient.

    x' = clip(x + eps · sign(∇ₓ cross-entropy(x, y)), 0, 1). Deterministic. With ``engine=foolbox`` Foolbox's
    implementation runs, with the same result.

    With ``search=minimal`` each sample gets the first of the 1,000 equal parts of max_eps that fools the model, as
    in Foolbox 2.3. At max_eps 1, a sample that none of them fools gets the shortest such step along
    sign(∇ₓ(zⱼ − z_y)) towards another class j instead: mostly its cross-entropy is lost in float32's rounding.
    """

    name: ClassVar[str] = "fgsm"
    source: ClassVar[str] = (
        "Goodfellow, Shlens and Szegedy 2015, Explaining and Harnessing Adversarial Examples, section 4"
    )
    depends_on: ClassVar[tuple[str, ...]] = foolbox_engine.DEPENDS_ON
    only_in: ClassVar[Mapping[str, str]] = {**EpsSearch.only_in, "engine": "none"}

    eps: float = param(0.3, min=0, help="largest change of a pixel, images being in [0, 1]")
    search: str = param(
        "none", choices=("none", "minimal"), help="none: step by eps; minimal: by the smallest eps that fools the model"
    )
    max_eps: float = param(1.0, above=0, max=1, help="largest eps that search=minimal tries")
    engine: str = param("native", choices=("native", "foolbox"), help="whose implementation runs, with search=none")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        del rng
        if self.search == "minimal":
            return first_on_ray(model, images, labels, self.max_eps)
        if self.engine == "foolbox":
            attack = foolbox_engine.load().attacks.LinfFastGradientAttack(random_start=False)
            return foolbox_engine.maximise(attack, model, images, labels, self.eps)
        return sign_steps(model, images, labels, images, eps=self.eps, steps=1, step_size=self.eps, early_stop=False)

    def passes(self) -> int:
        """One gradient; a search takes some 200 forward passes more, a third of a pass each."""
        return 70 if self.search == "minimal" else 1
