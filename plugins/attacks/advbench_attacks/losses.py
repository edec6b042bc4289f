"""Losses of logits: margins, the difference of logits ratio (DLR), and a cross-entropy that does not saturate."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

from advbench.api import ContractError, Goal

__all__ = [
    "LOSSES",
    "Loss",
    "check_classes",
    "dlr_loss",
    "logsumexp_margin",
    "margin",
    "mask_classes",
    "targeted_dlr_loss",
    "targeted_margin",
    "targeted_margin_loss",
    "top_other_classes",
]

Loss: TypeAlias = Callable[[torch.Tensor, Goal], torch.Tensor]
"""Takes logits, shape (batch, classes), and a goal; returns what to maximise for each sample, shape (batch,)."""

LOSSES = ("ce", "dlr", "margin")
"""Names of the losses: cross-entropy, difference of logits ratio, and margin.

With target classes t, each is minus the untargeted loss with t in place of the label; see also :func:`dlr_loss`.
"""

_DIVISION_EPS = 1e-12
"""Added to the divisor of the DLR loss, which is 0 where logits are equal."""


def check_classes(loss: str, classes: int) -> None:
    """Checks that a model has enough classes for one of :data:`LOSSES`.

    Raises:
        ContractError: It has too few.
    """
    if loss == "dlr" and classes < 3:
        raise ContractError(
            f"loss=dlr needs a model of at least 3 classes, and this one has {classes}; use loss=ce or loss=margin"
        )


def mask_classes(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Returns a copy of the logits with one class's at minus infinity, such as the true one's."""
    return logits.scatter(1, classes[:, None], float("-inf"))


def top_other_classes(logits: torch.Tensor, labels: torch.Tensor, count: int) -> torch.Tensor:
    """Returns the classes with the largest logits, without the true one: int64, shape (batch, at most count)."""
    order = mask_classes(logits, labels).argsort(dim=1, descending=True, stable=True)
    return order[:, : min(count, logits.shape[1] - 1)]


def margin(logits: torch.Tensor, goal: Goal) -> torch.Tensor:
    """Returns by how much the goal is reached, see :meth:`advbench.api.Goal.margin`; shape (batch,)."""
    return goal.margin(logits)


def targeted_margin(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns zₜ − z_y for each sample's target class t; shape (batch,)."""
    return (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]


def targeted_margin_loss(targets: torch.Tensor) -> Loss:
    """Returns the loss zₜ − z_y for these target classes t: int64, shape (batch,)."""

    def loss(logits: torch.Tensor, goal: Goal) -> torch.Tensor:
        return targeted_margin(logits, goal.labels, targets)

    return loss


def logsumexp_margin(logits: torch.Tensor, goal: Goal) -> torch.Tensor:
    """Returns u = log Σ_{j≠y} exp zⱼ − z_y, whose softplus is the cross-entropy; −u of the targets, if there are any.

    Its gradient is that of the cross-entropy divided by the probability of all classes but the true one, so both have
    the same signs. Where that probability rounds to 0 in float32, the gradient of the cross-entropy vanishes; this one
    does not.

    Returns:
        Shape (batch,).
    """
    classes = goal.classes
    own = logits.gather(1, classes[:, None])[:, 0]
    others = mask_classes(logits, classes).logsumexp(dim=1)
    return others - own if goal.targets is None else own - others


def dlr_loss(logits: torch.Tensor, goal: Goal) -> torch.Tensor:
    """Returns the difference of logits ratio, −(z_y − max_{j≠y} zⱼ)/(z₁ − z₃); shape (batch,).

    z₁, z₂, … are a sample's logits in descending order. The ratio does not change when logits are rescaled. With target
    classes t, it is (zₜ − max_{j≠t} zⱼ)/(z₁ − (z₃ + z₄)/2), with z₃ alone if there are 3 classes. Source: Croce and
    Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks,
    equations 6 and 8. Equation 6 with t in place of y would grow with the largest logit, and rarely reach t.

    Args:
        logits: Shape (batch, classes), with at least 3 classes.
        goal: What to make of each sample.
    """
    if goal.targeted and logits.shape[1] > 3:
        return targeted_dlr_loss(logits, goal.margin(logits))
    top = logits.topk(3, dim=1).values
    return goal.margin(logits) / (top[:, 0] - top[:, 2] + _DIVISION_EPS)


def targeted_dlr_loss(logits: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    """Returns the targeted difference of logits ratio, −(z_y − z_t)/(z₁ − (z₃ + z₄)/2); shape (batch,).

    Source: as for :func:`dlr_loss`, equation 8.

    Args:
        logits: Shape (batch, classes), with at least 4 classes.
        difference: z_t − z_y for each sample's target class t; shape (batch,).
    """
    top = logits.topk(4, dim=1).values
    return difference / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _DIVISION_EPS)
