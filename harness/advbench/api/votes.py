"""Several answers as one: means of logits or probabilities, and votes as the logarithms of the classes' shares."""

from __future__ import annotations

import math

import torch

from advbench.api.devices import widest_float

__all__ = ["are_probabilities", "combine_logits", "log_shares"]

_SUMS = ((8, 1e-2), (2, 1e-4), (1, 2e-6), (0, 0.0))
"""Pairs of a minimum number of images and a tolerance: rows that sum to 1 within it are taken for probabilities.

The rows of a softmax in bfloat16 sum to 1 within 4e-3. With few images the tolerance is small, since the logits of a
single image may sum to about 1 by chance.
"""

_NO_VOTE = 1e-3
"""A class without a vote counts as this part of one, so that its logit is finite."""


def are_probabilities(logits: torch.Tensor) -> bool:
    """Whether rows are at least 0 and sum to 1, so that they are probabilities and no logits; one-hot rows are, too.

    Args:
        logits: Shape (batch, classes).
    """
    tolerance = next(tolerance for minimum, tolerance in _SUMS if len(logits) >= minimum)
    return bool((logits >= 0).all() & ((logits.sum(dim=1) - 1).abs() < tolerance).all())


def log_shares(counts: torch.Tensor) -> torch.Tensor:
    """The logits of a vote: the logarithm of each class's share of the votes.

    A class without a vote gets the logit of a thousandth of a vote, since logits are finite.

    Args:
        counts: Votes for each class, shape (batch, classes); the same number of votes for each image.

    Returns:
        float32, shape (batch, classes).
    """
    counts = counts.to(widest_float(counts.device))
    shares = counts.clamp(min=_NO_VOTE) / counts.sum(dim=1, keepdim=True)
    return shares.log().to(torch.float32)


def combine_logits(logits: torch.Tensor, rule: str) -> torch.Tensor:
    """The logits of an ensemble of classifiers.

    Args:
        logits: Of each member, shape (members, batch, classes).
        rule: ``logits`` for their mean, ``probabilities`` for the logarithm of the mean softmax probabilities, or
            ``votes`` for the :func:`log_shares` of the predicted classes, which have no gradient.

    Returns:
        float32, shape (batch, classes).
    """
    logits = logits.float()
    if rule == "logits":
        return logits.mean(dim=0)
    if rule == "probabilities":
        return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))
    if rule != "votes":
        raise ValueError(f"rule={rule!r}: must be logits, probabilities or votes")
    return log_shares(torch.nn.functional.one_hot(logits.argmax(dim=2), logits.shape[2]).sum(dim=0))
