"""Losses of differences between logits: ratios, which no rescaling of the logits changes, and margins."""

from __future__ import annotations

import torch

from advbench.api import ContractError

__all__ = ["LOSSES", "check_classes", "logit_ratio", "margin", "targeted_logit_ratio", "targeted_margin"]

LOSSES = ("ce", "dlr", "margin")
"""Untargeted losses by name: the cross-entropy, the difference of logits ratio, and the margin."""

_SMALLEST = 1e-12
"""Added to what is divided by, which is 0 where logits are equal."""


def check_classes(loss: str, classes: int) -> None:
    """Checks that a model has classes enough for one of :data:`LOSSES`.

    Raises:
        ContractError: It has not.
    """
    if loss == "dlr" and classes < 3:
        raise ContractError(
            f"loss=dlr needs a model of at least 3 classes, and this one has {classes}; use loss=ce or loss=margin"
        )


def margin(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """By how much the largest other logit exceeds the true class's, max_{j≠y} zⱼ − z_y; shape (batch,)."""
    others = logits.scatter(1, labels[:, None], float("-inf")).amax(dim=1)
    return others - logits.gather(1, labels[:, None])[:, 0]


def targeted_margin(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """By how much the logit of each sample's class t exceeds the true class's, zₜ − z_y; shape (batch,)."""
    return (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]


def logit_ratio(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The difference of logits ratio, −(z_y − max_{j≠y} zⱼ)/(z₁ − z₃); shape (batch,).

    z₁, z₂, … are a sample's logits in falling order. Source: Croce and Hein 2020, Reliable evaluation of adversarial
    robustness with an ensemble of diverse parameter-free attacks, equation 6.

    Args:
        logits: Shape (batch, classes), of at least 3 classes.
        labels: True labels, int64, shape (batch,).
    """
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + _SMALLEST)


def targeted_logit_ratio(logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The targeted difference of logits ratio, −(z_y − z_t)/(z₁ − (z₃ + z₄)/2); shape (batch,).

    Source: as :func:`logit_ratio`, equation 8.

    Args:
        logits: Shape (batch, classes), of at least 4 classes.
        labels: True labels, int64, shape (batch,).
        targets: The class t of each sample, int64, shape (batch,).
    """
    top = logits.topk(4, dim=1).values
    return targeted_margin(logits, labels, targets) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2 + _SMALLEST)
