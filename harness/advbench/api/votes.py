"""Votes as logits: the logarithms of the classes' shares."""

from __future__ import annotations

import torch

__all__ = ["log_shares"]

_NO_VOTE = 1e-3
"""A class without a vote counts as this part of one, so that its logit is finite."""


def log_shares(counts: torch.Tensor) -> torch.Tensor:
    """The logits of a vote: the logarithm of each class's share of the votes.

    A class without a vote gets the logit of a thousandth of a vote, since logits are finite.

    Args:
        counts: Votes for each class, shape (batch, classes); the same number of votes for each image.

    Returns:
        float32, shape (batch, classes).
    """
    counts = counts.to(torch.float64)
    shares = counts.clamp(min=_NO_VOTE) / counts.sum(dim=1, keepdim=True)
    return shares.log().to(torch.float32)
