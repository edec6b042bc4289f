"""PGD's search for the smallest eps as in Foolbox 2.3.0."""

from __future__ import annotations

import torch

from advbench.api import widest_float
from advbench_attacks.active_sets import store_where
from advbench_attacks.foolbox2.fgsm import cross_entropy_signs
from advbench_attacks.foolbox2.nearest import NearestInL2, correct_rows, logits_at
from advbench_attacks.norms import per_image

__all__ = ["FIRST_EPS", "STEP_SIZE", "foolbox2_pgd", "foolbox2_pgd_passes"]

FIRST_EPS = 0.3
"""The first eps to try."""

STEP_SIZE = 0.01
"""The default step size at this eps; at any other eps it is in proportion."""

_GROWTH = 1.5
"""Factor by which eps grows until an attempt succeeds."""

_ATTEMPTS = 20
"""Maximum number of attempts with growing eps, and number of bisections."""


def foolbox2_pgd(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, *, steps: int, step_size: float
) -> torch.Tensor:
    """Runs PGD from the clean image with eps .3, 1.5 times that and so on until it succeeds, and then bisects eps.

    The bisection is between 0 and the eps that succeeded. Each attempt ends at its first adversarial point. The
    adversarial point that is nearest in L2 is returned.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        steps: Number of steps of an attempt.
        step_size: The step size at eps .3.

    Returns:
        Images of the same shape; the clean image for a sample that is misclassified already, or was never fooled.
    """
    found = NearestInL2(images, labels)
    rows = correct_rows(model, images, labels)
    eps = torch.full((len(images),), FIRST_EPS, dtype=widest_float(images.device), device=images.device)
    attempt = _Attempt(model, found, steps, step_size / FIRST_EPS)
    pending = rows
    for _ in range(_ATTEMPTS):
        pending = pending[(~attempt.run(pending, eps[pending])).nonzero().flatten()]
        eps[pending] *= _GROWTH
    failed = torch.zeros_like(eps, dtype=torch.bool)
    failed[pending] = True
    rows = rows[~failed[rows]]
    low, high = torch.zeros_like(eps), eps.clone()
    for _ in range(_ATTEMPTS):
        eps = (low + high) / 2
        succeeded = attempt.run(rows, eps[rows])
        store_where(succeeded, rows, (high, eps[rows]))
        store_where(~succeeded, rows, (low, eps[rows]))
    return found.points


def foolbox2_pgd_passes(steps: int) -> int:
    """Estimates the passes for an image: half of the attempts take all steps."""
    return steps * (_ATTEMPTS + 2) // 2


class _Attempt:
    """Runs PGD with a given eps for each sample.

    Args:
        model: Classifier in eval mode.
        found: Where adversarial points are kept.
        steps: Number of steps.
        relative_step_size: The step size as a share of eps.
    """

    def __init__(self, model: torch.nn.Module, found: NearestInL2, steps: int, relative_step_size: float) -> None:
        self.model = model
        self.found = found
        self.steps = steps
        self.relative_step_size = relative_step_size

    def run(self, rows: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        """Attacks these samples, each until its first adversarial point.

        Args:
            rows: The samples.
            eps: The eps of each, float64.

        Returns:
            Whose point is adversarial: bool, shape (samples,).
        """
        succeeded = torch.zeros_like(rows, dtype=torch.bool)
        running = torch.arange(len(rows), device=rows.device)
        points = self.found.images[rows]
        size, step = per_image(eps.float()), per_image((self.relative_step_size * eps).float())
        for _ in range(self.steps):
            if not len(running):
                break
            tried = rows[running]
            images = self.found.images[tried]
            signs = cross_entropy_signs(self.model, tried, points, self.found.labels[tried])
            moved = points + step[running] * signs
            limit = size[running]
            points = (images + (moved - images).clamp(-limit, limit)).clamp(0, 1)
            misclassified = self.found.update(tried, points, logits_at(self.model, tried, points))
            store_where(misclassified, running, (succeeded, True))
            failed = (~misclassified).nonzero().flatten()
            running, points = running[failed], points[failed]
        return succeeded
