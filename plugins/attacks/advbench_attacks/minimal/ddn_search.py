"""The search of DDN: a perturbation's direction turns with the gradient, its norm shrinks and grows apart from it."""

from __future__ import annotations

import torch

from advbench.api import for_rows, is_stochastic
from advbench_attacks.answers import ask
from advbench_attacks.input_gradients import each, logsumexp_margin_gradient, margin_gradient
from advbench_attacks.minimal.first_boundary import to_first_boundary
from advbench_attacks.minimal_steps import NearestPoints, annealed, scaling, size

__all__ = ["shrink_norms"]

_CHANGE = 0.05
"""γ: by what share the norm shrinks after a point that fools the model, and grows after one that does not."""

_WITHOUT_SLOPES = 1.0
"""The L2 norm of the first perturbation where no boundary was found at the clean image."""

_SETTLING = 0.65
"""After what share of the steps the norm may first have shrunk to the boundary and still settle at it."""

_FIRST_LOOKS = 4
"""How often the last tenth of the way to the first perturbation is halved, which a plane crosses at 1/1.05 of it."""

_FIRST_STEP, _LAST_STEP = 1.0, 0.01
"""α, the L2 length of a step as a share of the first perturbation's: it falls along a cosine."""


def shrink_norms(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, *, steps: int) -> NearestPoints:
    """Searches the nearest points in L2 that fool the model.

    At each step δ ← δ + α ∇J/‖∇J‖₂, rescaled to a norm that is 5 % smaller after a point that fools the model and 5 %
    larger after one that does not; see :class:`advbench_attacks.minimal.ddn.DecoupledDirectionAndNorm`.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        steps: Number of gradient steps, those for the first boundary included.

    Returns:
        The nearest points; none for a sample that is misclassified already, or that no point fooled.
    """
    nearest = NearestPoints(images, labels, "l2")
    rows = torch.arange(len(images), device=images.device)
    first = to_first_boundary(for_rows(model, rows), images, labels, "l2", steps=steps)
    rows = (first.logits.argmax(dim=1) == labels).nonzero().flatten()
    if not len(rows):
        return nearest
    begins = (images + (1 + _CHANGE) * first.changes).clamp(0, 1)[rows]
    norm = size(begins - images[rows], "l2")
    norm = torch.where(norm > 0, norm, _WITHOUT_SLOPES)
    if not is_stochastic(model):
        hit = rows[nearest.look_at(model, rows, begins)]
        nearest.look_on_the_way(model, hit, _FIRST_LOOKS, begin=1 - 2 * _CHANGE)
    _shrink(model, nearest, rows, begins, norm, begin=first.gradients, steps=steps)
    if not is_stochastic(model):
        share = nearest.distances[rows] / norm
        late = rows[share < (1 - _CHANGE) ** (_SETTLING * steps)]
        if len(late):
            nearest.look_on_the_way(model, late)
            _shrink(model, nearest, late, nearest.points[late], nearest.distances[late], begin=steps // 2, steps=steps)
    return nearest


def _shrink(
    model: torch.nn.Module,
    nearest: NearestPoints,
    rows: torch.Tensor,
    points: torch.Tensor,
    norm: torch.Tensor,
    *,
    begin: int,
    steps: int,
) -> None:
    """Takes the steps of these samples from that one on, which begin at points of these norms: (samples,)."""
    images, labels, first_norm = nearest.images[rows], nearest.labels[rows], norm
    among = NearestPoints(images, labels, "l2")
    for step in range(begin, steps):
        # At unit length the gradient of the surplus is that of the cross-entropy.
        loss = logsumexp_margin_gradient if step < steps / 2 else margin_gradient
        gradient, logits = loss(for_rows(model, rows), points, labels)
        change = points - images
        hit = among.note(None, points, logits, size(change, "l2"))
        norm = norm * torch.where(hit, 1 - _CHANGE, 1 + _CHANGE)
        gradient, factors = scaling(gradient)
        length = annealed(_FIRST_STEP, _LAST_STEP, step, steps) * first_norm
        change, shrink = scaling(change.addcmul_(gradient, each(length * factors)))
        points = torch.addcmul(images, change, each(norm * shrink)).clamp_(0, 1)
    with torch.no_grad():
        among.note(None, points, ask(for_rows(model, rows), points))
    nearest.take(rows, among)
