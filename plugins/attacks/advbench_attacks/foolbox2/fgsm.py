"""FGSM's search for the smallest step as in Foolbox 2.3.0."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from advbench.api import for_rows, widest_float
from advbench_attacks.active_sets import store_where
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.foolbox2.nearest import NearestInL2, correct_rows, logits_at
from advbench_attacks.norms import per_image

__all__ = ["cross_entropy_signs", "foolbox2_fgsm"]

SIZES = 1000
"""Number of step sizes."""

_SECOND_SIZES = 20
"""Number of step sizes of the second pass, and of those of the first pass after which there is one."""


def foolbox2_fgsm(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, max_eps: float) -> torch.Tensor:
    """Tries 1,000 multiples of max_eps/1,000, in increasing order, until one is adversarial.

    If it is one of the first twenty, twenty equal parts of it are tried in the same way. The same happens with max_eps
    if none is adversarial. The nearest adversarial point is returned.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        max_eps: The largest step.

    Returns:
        Images of the same shape; the clean image for a sample that is misclassified already, or was never fooled.
    """
    found = NearestInL2(images, labels)
    rows = correct_rows(model, images, labels)
    if not len(rows):
        return found.points
    signs = torch.zeros_like(images)
    signs[rows] = cross_entropy_signs(model, rows, images[rows], labels[rows])
    sizes = torch.linspace(0, max_eps, SIZES + 1, dtype=widest_float(images.device), device=images.device)[1:]
    first = _first_adversarial(model, found, rows, signs, sizes.expand(len(rows), -1))
    again = (first < _SECOND_SIZES) | (first == SIZES)
    largest = sizes[first[again].clamp(max=SIZES - 1)]
    parts = torch.arange(1, _SECOND_SIZES + 1, device=images.device) / _SECOND_SIZES
    _first_adversarial(model, found, rows[again], signs, largest[:, None] * parts)
    return found.points


def cross_entropy_signs(
    model: torch.nn.Module, rows: torch.Tensor, points: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Returns the signs of the gradient of the float32 cross-entropy, which is 0 where the model is very sure."""
    with torch.enable_grad():
        inputs = points.detach().requires_grad_()
        loss = cross_entropy(float32_logits(for_rows(model, rows), inputs), labels, reduction="sum")
    return torch.autograd.grad(loss, inputs)[0].sign()


def _first_adversarial(
    model: torch.nn.Module, found: NearestInL2, rows: torch.Tensor, signs: torch.Tensor, sizes: torch.Tensor
) -> torch.Tensor:
    """Tries the sizes of each sample, one after another, until one is adversarial.

    Args:
        model: Classifier in eval mode.
        found: Where adversarial points are kept.
        rows: The samples.
        signs: The directions of all samples.
        sizes: The sizes of these samples, float64, shape (samples, sizes).

    Returns:
        The index of the first adversarial size; the number of sizes if there is none. int64, shape (samples,).
    """
    first = torch.full_like(rows, sizes.shape[1])
    pending = torch.arange(len(rows), device=rows.device)
    for index in range(sizes.shape[1]):
        if not len(pending):
            break
        tried = rows[pending]
        size = per_image(sizes[pending, index].float())
        points = (found.images[tried] + size * signs[tried]).clamp(0, 1)
        misclassified = found.update(tried, points, logits_at(model, tried, points))
        store_where(misclassified, pending, (first, index))
        pending = pending[(~misclassified).nonzero().flatten()]
    return first
