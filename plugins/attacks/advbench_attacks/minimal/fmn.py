"""The fast minimum-norm attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import torch

from advbench.api import Attack, Norm, SampleRandom, for_rows, is_stochastic, param
from advbench_attacks.input_gradients import each, input_gradient
from advbench_attacks.logit_differences import margin
from advbench_attacks.minimal.ddn_search import shrink_norms
from advbench_attacks.minimal.first_boundary import to_first_boundary
from advbench_attacks.minimal_steps import NearestPoints, annealed, size, unit

__all__ = ["FastMinimumNorm"]

FIRST_CHANGE, LAST_CHANGE = 0.05, 0.001
"""γ: by what share ε shrinks after a point that fools the model, and grows after one that does not."""

SHRINKAGE = 0.01
"""The last step's length as a share of the first's."""

_LOOKS = 6
"""How often the way to the first point is halved, which slopes that mislead put far behind the boundary."""

_DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


@dataclass(frozen=True)
class FastMinimumNorm(Attack):
    """Steps along the gradient in a ball that shrinks where the model is fooled and grows where it is not.

    With f = max_{j≠y} zⱼ − z_y, at each step δ ← clip(Π(δ + α ∇f/‖∇f‖₂)), with Π the projection on the ball of radius
    ε. Until the model has been fooled, ε is the linear estimate ‖δ‖_p + |f|/‖∇f‖_q of the distance to the boundary;
    then it shrinks by a share γ after a point that fools the model, to no more than the nearest such point's distance,
    and grows by γ after one that does not. α and γ fall along a cosine. A minimal attack, deterministic.

    Three things the paper does not do. It begins at the nearest of the boundaries linearised at the clean image, or
    where a nearer one is crossed on the way there, where the paper follows the likeliest class, to whose boundary the
    rest then keeps; the gradients of at most nine classes that this takes count as steps. The estimate is lengthened
    by 5 %: alone, it ends on the boundary of a linear model and approaches others without ever crossing them. And a
    sample that no step fools takes the later half of them again from the point that as many steps of DDN find: the
    paper, too, begins at an image of another class where there is one.
    """

    name: ClassVar[str] = "fmn"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Pintor, Roli, Brendel and Biggio 2021, Fast Minimum-norm Adversarial Attacks through Adaptive Norm "
        "Constraints, algorithm 1; for L1 the projection of Duchi, Shalev-Shwartz, Singer and Chandra 2008, figure 1"
    )

    norm: str = param("linf", choices=("linf", "l2", "l1"), help="the norm to keep small")
    steps: int = param(100, min=1, help="number of gradient steps")
    step_size: float = param(1.0, above=0, help="L2 length of the first step; the last one's is a hundredth of it")

    def run(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, rng: SampleRandom
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.run`."""
        del rng
        nearest = NearestPoints(images, labels, self.minimises())
        rows = torch.arange(len(images), device=images.device)
        first = to_first_boundary(for_rows(model, rows), images, labels, self.minimises(), steps=self.steps)
        rows = (first.logits.argmax(dim=1) == labels).nonzero().flatten()
        if not len(rows):
            return nearest.points
        begins = (images + (1 + FIRST_CHANGE) * first.changes).clamp(0, 1)
        if not is_stochastic(model):
            hit = rows[nearest.look_at(model, rows, begins[rows])]
            nearest.look_on_the_way(model, hit, _LOOKS)
            begins[hit] = nearest.points[hit]
        self._approach(model, nearest, rows, begins[rows], begin=first.gradients)
        lost = rows[nearest.distances[rows].isinf()]
        if len(lost) and not is_stochastic(model):
            found = shrink_norms(for_rows(model, lost), images[lost], labels[lost], steps=self.steps)
            nearest.look_at(model, lost, found.points)
            found_at = lost[nearest.distances[lost].isfinite()]
            self._approach(model, nearest, found_at, nearest.points[found_at], begin=self.steps // 2)
        return nearest.confirmed(model)

    def _approach(
        self, model: torch.nn.Module, nearest: NearestPoints, rows: torch.Tensor, points: torch.Tensor, *, begin: int
    ) -> None:
        """Takes the steps of these samples from that one on, which begin at these points."""
        if not len(rows):
            return
        images, labels = nearest.images[rows], nearest.labels[rows]
        eps = size(points - images, self.norm)
        for step in range(begin, self.steps):
            gradient, logits = input_gradient(for_rows(model, rows), points, labels, margin)
            hit = nearest.note(rows, points, logits)
            change = annealed(FIRST_CHANGE, LAST_CHANGE, step, self.steps)
            shrunk = torch.minimum(eps * (1 - change), nearest.distances[rows])
            estimate = size(points - images, self.norm) + margin(logits, labels).abs() / size(
                gradient, _DUAL[self.norm]
            )
            found = nearest.distances[rows].isfinite()
            grown = torch.where(found, eps * (1 + change), estimate * (1 + FIRST_CHANGE))
            eps = torch.where(hit, shrunk, grown)
            length = annealed(self.step_size, SHRINKAGE * self.step_size, step, self.steps)
            points = (images + _projected(points - images + length * unit(gradient), eps, self.norm)).clamp(0, 1)
        nearest.look_at(model, rows, points)

    def minimises(self) -> Norm:
        """The norm that is given."""
        return cast(Norm, self.norm)

    def passes(self) -> int:
        """A gradient a step."""
        return self.steps


def _projected(changes: torch.Tensor, eps: torch.Tensor, norm: str) -> torch.Tensor:
    """The nearest changes in L2 of norm at most eps, one a sample; eps may be infinite."""
    if norm == "linf":
        return changes.clamp(-each(eps), each(eps))
    inside = size(changes, norm) <= eps
    if norm == "l2":
        return torch.where(each(inside), changes, each(eps) * unit(changes))
    return torch.where(each(inside), changes, _shrunk(changes, eps))


def _shrunk(changes: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """Changes outside the L1 ball brought onto it: every value nearer to 0 by the same θ, or 0."""
    sizes = changes.flatten(1).abs().sort(dim=1, descending=True).values
    counts = torch.arange(1, sizes.shape[1] + 1, device=sizes.device)
    thetas = (sizes.cumsum(dim=1) - eps[:, None]) / counts
    kept = (sizes > thetas).sum(dim=1, keepdim=True).clamp(min=1)
    theta = thetas.gather(1, kept - 1)
    return changes.sign() * (changes.abs() - each(theta)).clamp(min=0)
