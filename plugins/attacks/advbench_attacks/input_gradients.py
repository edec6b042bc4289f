"""What attacks that search by themselves ask a model: is it fooled, and which way does a loss rise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

from advbench_attacks.answers import ask
from advbench_attacks.logit_differences import margin, targeted_margin

__all__ = [
    "Loss",
    "clear_margin",
    "doubt",
    "each",
    "fooled",
    "input_gradient",
    "lead",
    "likeliest",
    "logsumexp_margin",
    "logsumexp_margin_gradient",
    "margin_gradient",
    "sign_gradient",
    "towards",
]

_CERTAIN = 1e-5
"""By how much of the largest logit another class must lead to lead clearly."""

_OFFSET = 10.0
"""Logits that are more than this many times as large as their range have an offset in common, which is not counted."""

_CERTAIN_OF_OFFSET = 1e-6
"""By how much of the largest logit another class must lead even then: rounding is a tenth of it."""

_RULED_OUT = 1e3
"""A logit is far below the others where it is under zero by so many times the size of the highest."""

_LIKELIEST = 9
_SPAN = 10.0
"""How many of the other classes' logits it uses, and the range to which they are scaled."""

Loss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits, shape (batch, classes), and labels to a loss a sample, shape (batch,)."""


def each(values: torch.Tensor) -> torch.Tensor:
    """One value a sample, shaped to go with images."""
    return values.reshape(-1, 1, 1, 1)


def fooled(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Whether the model misclassifies each image: bool, shape (batch,)."""
    with torch.no_grad():
        return ask(model, images).argmax(dim=1) != labels


def input_gradient(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, loss: Loss
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss's gradient with respect to each image.

    Args:
        model: Classifier in eval mode.
        images: Shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        loss: What is to rise.

    Returns:
        The gradient, of the images' shape, 0 where it is no number; and the logits, without gradient.
    """
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        logits = ask(model, points)
        (gradient,) = torch.autograd.grad(loss(logits, labels).sum(), points)
    return gradient.nan_to_num(0.0), logits.detach()


def logsumexp_margin_gradient(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of :func:`logsumexp_margin`, at another scale and with whatever is no number in it.

    The logits are scaled at each image so that those of the nine likeliest other classes span 10. At the scale that
    they have, the gradient would be one class's where they are large, and all classes' mean where they are small.
    """

    def shares(others: torch.Tensor) -> torch.Tensor:
        top = others.topk(min(_LIKELIEST, others.shape[1] - 1), dim=1).values
        first, span = top[:, :1], (top[:, :1] - top[:, -1:]).clamp(min=torch.finfo(top.dtype).tiny)
        return ((others - first) * (_SPAN / span)).softmax(dim=1)

    return _gradient(model, images, labels, shares)


def margin_gradient(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What :func:`input_gradient` gives of the loss max_{j≠y} zⱼ − z_y, with whatever is no number in it.

    It leads towards the likeliest other class alone.
    """

    def first(others: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(others).scatter_(1, others.argmax(dim=1, keepdim=True), 1.0)

    return _gradient(model, images, labels, first)


def sign_gradient(
    model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, loss: Loss
) -> tuple[torch.Tensor, torch.Tensor]:
    """The signs of :func:`input_gradient`, which says the rest."""
    gradient, logits = input_gradient(model, images, labels, loss)
    return gradient.sign(), logits


def logsumexp_margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss u = log Σ_{j≠y} exp zⱼ − z_y, of which the cross-entropy is the softplus; shape (batch,).

    Its gradient is that of the cross-entropy over the probability of all classes but the true one, and so has the
    same signs; but where that probability rounds to 0 in float32, the cross-entropy's gradient is lost, not this.
    """
    true = logits.gather(1, labels[:, None])[:, 0]
    return _without(logits, labels).logsumexp(dim=1) - true


def towards(targets: torch.Tensor) -> Loss:
    """The loss zⱼ − z_y, for a class j of each sample: int64, shape (batch,)."""

    def difference(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return targeted_margin(logits, labels, targets)

    return difference


def likeliest(logits: torch.Tensor, labels: torch.Tensor, count: int) -> torch.Tensor:
    """The classes with the largest logits, the true one left out: int64, shape (batch, at most count)."""
    order = _without(logits, labels).argsort(dim=1, descending=True, stable=True)
    return order[:, : min(count, logits.shape[1] - 1)]


def lead(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Whether another class leads clearly: by more than rounding may change in another batch. bool, shape (batch,)."""
    return clear_margin(logits, labels) > 0


def clear_margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """By how much another class leads more than it must to lead clearly; shape (batch,)."""
    return margin(logits, labels) - doubt(logits)


def doubt(logits: torch.Tensor) -> torch.Tensor:
    """By how much rounding in another batch may change a difference of a sample's logits; shape (batch,)."""
    high = logits.amax(dim=1)
    # A logit far below the others, such as -1e9 of a class that is ruled out, says nothing of their rounding.
    ruled_out = logits < -_RULED_OUT * (1 + high.abs()[:, None])
    low = logits.masked_fill(ruled_out, float("inf")).amin(dim=1)
    largest = torch.maximum(-low, high)
    return torch.maximum(_CERTAIN * torch.minimum(largest, _OFFSET * (high - low)), _CERTAIN_OF_OFFSET * largest)


def _gradient(
    model: torch.nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    shares: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradient of Σ_{j≠y} sⱼ zⱼ − z_y, and the logits; the shares s are made of the others' logits."""
    with torch.enable_grad():
        points = images.detach().requires_grad_()
        logits = ask(model, points)
    answers = logits.detach()
    rise = shares(_without(answers, labels)).scatter_(1, labels[:, None], -1.0)
    (gradient,) = torch.autograd.grad(logits, points, rise)
    return gradient, answers


def _without(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The logits with the true class's at minus infinity."""
    return logits.scatter(1, labels[:, None], float("-inf"))
