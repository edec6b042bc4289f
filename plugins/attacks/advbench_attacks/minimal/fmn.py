"""Fast minimum-norm attack (FMN)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Artefact, Attack, Goal, Norm, SampleRandom, for_rows, goal_param, is_stochastic, param
from advbench_attacks.input_gradients import input_gradient
from advbench_attacks.losses import margin
from advbench_attacks.minimal.cosine_annealing import cosine_annealing
from advbench_attacks.minimal.ddn_search import run_ddn
from advbench_attacks.minimal.nearest_boundary import find_nearest_boundary
from advbench_attacks.nearest_adversarials import NearestAdversarials
from advbench_attacks.norms import lp_norm, normalize_l2, per_image

__all__ = ["FastMinimumNorm"]

FIRST_GAMMA, LAST_GAMMA = 0.05, 0.001
"""γ: relative decrease of ε after an adversarial point, and relative increase after any other; first and last value."""

LAST_STEP_SHARE = 0.01
"""Length of the last step as a share of the first."""

_INITIAL_BISECTIONS = 6
"""Number of bisections on the segment to the initial point, which may lie far behind the true boundary."""

_DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


@dataclass(frozen=True)
class FastMinimumNorm(Attack):
    """Gradient steps within a ball that shrinks after adversarial points and grows after others.

    With f = max_{j≠y} zⱼ − z_y, at each step δ ← δ + α ∇f/‖∇f‖₂, projected onto the ball of radius ε and clipped. Until
    the first adversarial point, ε is ‖δ‖_p + |f|/‖∇f‖_q, the linear estimate of the distance to the boundary. Then ε
    shrinks by γ after an adversarial point, to at most the distance of the nearest one, and grows by γ after any other.
    α and γ fall along a cosine. A minimal attack, deterministic. With a ``goal`` t, f = zₜ − max_{j≠t} zⱼ, and the
    start is the nearest point at which t is the predicted class, all logits linearised.

    It differs from the paper in three ways:

    - It starts at the nearest boundary linearised at the clean image, or at a nearer one on the segment to it. The
      paper follows the top other class and then stays at that boundary. The gradients of at most nine classes that this
      takes count as steps.
    - The estimate is increased by 5 %. Without this, it ends on the boundary of a linear model, and approaches others
      without crossing them.
    - A sample without any adversarial point repeats the second half of the steps from a point found by DDN in as many
      steps. The paper can also start at an image of another class.
    """

    name: ClassVar[str] = "fmn"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Pintor, Roli, Brendel and Biggio 2021, Fast Minimum-norm Adversarial Attacks through Adaptive Norm "
        "Constraints, algorithm 1; for L1 the projection of Duchi, Shalev-Shwartz, Singer and Chandra 2008, figure 1"
    )

    norm: str = param("linf", choices=("linf", "l2", "l1"), help="norm to minimize")
    steps: int = param(100, min=1, help="number of gradient steps")
    step_size: float = param(1.0, above=0, help="L2 length of the first step; the last one is a hundredth of it")
    goal: str = goal_param()

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
        nearest = NearestAdversarials(images, goal, self.minimized_norm())
        rows = torch.arange(len(images), device=images.device)
        boundary = find_nearest_boundary(for_rows(model, rows), images, goal, self.minimized_norm(), steps=self.steps)
        rows = (~goal.reached(boundary.logits)).nonzero().flatten()
        if not len(rows):
            return nearest.points
        initial_points = (images + (1 + FIRST_GAMMA) * boundary.perturbations).clamp(0, 1)
        if not is_stochastic(model):
            is_adv = nearest.query(model, rows, initial_points[rows])
            if goal.targeted:
                is_adv |= nearest.query(model, rows, (images + boundary.perturbations).clamp(0, 1)[rows])
            is_adv = rows[is_adv]
            nearest.bisect(model, is_adv, _INITIAL_BISECTIONS)
            initial_points[is_adv] = nearest.points[is_adv]
        self._take_steps(model, nearest, rows, initial_points[rows], first_step=boundary.gradients)
        failed = rows[nearest.distances[rows].isinf()]
        if len(failed) and not is_stochastic(model):
            from_ddn = run_ddn(for_rows(model, failed), images[failed], goal[failed], steps=self.steps)
            nearest.query(model, failed, from_ddn.points)
            recovered = failed[nearest.distances[failed].isfinite()]
            self._take_steps(model, nearest, recovered, nearest.points[recovered], first_step=self.steps // 2)
        return nearest.verified(model)

    def _take_steps(
        self,
        model: torch.nn.Module,
        nearest: NearestAdversarials,
        rows: torch.Tensor,
        points: torch.Tensor,
        *,
        first_step: int,
    ) -> None:
        """Takes the steps from number ``first_step`` on, for samples at these points."""
        if not len(rows):
            return
        images, goal = nearest.images[rows], nearest.goal[rows]
        eps = lp_norm(points - images, self.norm)
        for step in range(first_step, self.steps):
            gradient, logits = input_gradient(for_rows(model, rows), points, goal, margin)
            is_adv = nearest.update(rows, points, logits)
            gamma = cosine_annealing(FIRST_GAMMA, LAST_GAMMA, step, self.steps)
            shrunk = torch.minimum(eps * (1 - gamma), nearest.distances[rows])
            estimate = lp_norm(points - images, self.norm) + goal.margin(logits).abs() / lp_norm(
                gradient, _DUAL[self.norm]
            )
            has_adv = nearest.distances[rows].isfinite()
            grown = torch.where(has_adv, eps * (1 + gamma), estimate * (1 + FIRST_GAMMA))
            eps = torch.where(is_adv, shrunk, grown)
            step_size = cosine_annealing(self.step_size, LAST_STEP_SHARE * self.step_size, step, self.steps)
            points = (images + _project(points - images + step_size * normalize_l2(gradient), eps, self.norm)).clamp(
                0, 1
            )
        nearest.query(model, rows, points)

    def minimized_norm(self) -> Norm:
        """Returns the norm parameter."""
        return cast(Norm, self.norm)

    def passes(self) -> int:
        """Returns one gradient per step."""
        return self.steps


def _project(perturbations: torch.Tensor, eps: torch.Tensor, norm: str) -> torch.Tensor:
    """Projects perturbations in L2 onto balls of radius eps in the norm, one per sample; eps may be infinite."""
    if norm == "linf":
        return perturbations.clamp(-per_image(eps), per_image(eps))
    inside = lp_norm(perturbations, norm) <= eps
    if norm == "l2":
        return torch.where(per_image(inside), perturbations, per_image(eps) * normalize_l2(perturbations))
    return torch.where(per_image(inside), perturbations, _project_l1(perturbations, eps))


def _project_l1(perturbations: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """Projects perturbations outside the L1 ball onto it: soft thresholding with one θ per sample."""
    magnitudes = perturbations.flatten(1).abs().sort(dim=1, descending=True).values
    counts = torch.arange(1, magnitudes.shape[1] + 1, device=magnitudes.device)
    thetas = (magnitudes.cumsum(dim=1) - eps[:, None]) / counts
    kept = (magnitudes > thetas).sum(dim=1, keepdim=True).clamp(min=1)
    theta = thetas.gather(1, kept - 1)
    return perturbations.sign() * (perturbations.abs() - per_image(theta)).clamp(min=0)
