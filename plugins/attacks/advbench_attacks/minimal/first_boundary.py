"""Which class boundary is the nearest, as far as the classifier's slopes at the clean images tell."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from advbench.api import Norm
from advbench_attacks.answers import ask
from advbench_attacks.halfspaces import to_boundary
from advbench_attacks.input_gradients import each, likeliest
from advbench_attacks.minimal_steps import size

__all__ = ["FirstBoundary", "to_first_boundary"]

_CANDIDATES = 9
"""How many classes are looked at, the likeliest at the clean image first, the true one left out."""

_SHARE = 10
"""One of so many gradients that an attack takes may be for a class looked at."""


class FirstBoundary(NamedTuple):
    """What :func:`to_first_boundary` found.

    Attributes:
        changes: The smallest changes that lead to the nearest boundary, of the images' shape; 0 where no slope is
            a number, or all are 0.
        logits: What the model says of the clean images, without gradient.
        gradients: How many it took.
        classes: The classes looked at, those with the nearest boundaries first; int64, shape (batch, gradients).
    """

    changes: torch.Tensor
    logits: torch.Tensor
    gradients: int
    classes: torch.Tensor


def to_first_boundary(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, norm: Norm, *, steps: int
) -> FirstBoundary:
    """The smallest changes within [0, 1] that lead to the nearest of the boundaries linearised at the clean images.

    A search that follows the likeliest other class ends at the boundary with it, where that with another class may be
    nearer: the difference of the true logit and the largest of the others has a minimum of its own for each class. It
    finds the nearest where it begins on the right side (Moosavi-Dezfooli, Fawzi and Frossard 2016, DeepFool: a simple
    and accurate method to fool deep neural networks, equation 8, is how the nearest is told). It costs a forward pass
    and a backward pass a class.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        norm: In which changes are small: ``linf``, ``l2`` or ``l1``.
        steps: How many gradients the attack takes in all. At most a tenth of them, but always one, are for classes.
    """
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        logits = ask(model, points)
    answers = logits.detach()
    nearest, ways = torch.zeros_like(images), []
    distances = images.new_full(labels.shape, math.inf)
    true = answers.gather(1, labels[:, None])[:, 0]
    targets = likeliest(answers, labels, max(1, min(_CANDIDATES, steps // _SHARE)))
    for column, target in enumerate(targets.T):
        rise = torch.zeros_like(answers).scatter_(1, labels[:, None], -1.0).scatter_(1, target[:, None], 1.0)
        (normals,) = torch.autograd.grad(logits, points, rise, retain_graph=column + 1 < targets.shape[1])
        offsets = answers.gather(1, target[:, None])[:, 0] - true
        changes = to_boundary(images, normals.nan_to_num(0.0), offsets.nan_to_num(0.0), norm)
        gained = (normals * changes).flatten(1).sum(dim=1)
        far = size(changes, norm) * (offsets.abs() / gained.abs()).clamp(min=1)
        ways.append(far.nan_to_num(math.inf))
        nearer = far < distances  # never where it is no number
        nearest = torch.where(each(nearer), changes, nearest)
        distances = torch.where(nearer, far, distances)
    order = torch.stack(ways, dim=1).argsort(dim=1, stable=True)
    return FirstBoundary(nearest, answers, targets.shape[1], targets.gather(1, order))
