"""Rejection: which samples count as right for a defense that may reject images, and how well it detects attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["auroc", "measure_rejection", "rejected_bits", "right_bits"]


def rejected_bits(scores: Sequence[float]) -> list[int]:
    """1 if an image with this score is rejected, else 0."""
    return [int(score > 0) for score in scores]


def right_bits(correct: Sequence[int], rejected: Sequence[int] | None, *, attacked: bool) -> list[int]:
    """Which samples count as right.

    Args:
        correct: 1 if the predicted class is the label, else 0.
        rejected: 1 if the image is rejected, else 0; None for a defense that rejects nothing.
        attacked: Whether an attacker made the images: rejecting one is right then. Of clean images and of corruptions,
            those are right that are accepted and predicted correctly.
    """
    if rejected is None:
        return list(correct)
    if attacked:
        return [one | other for one, other in zip(correct, rejected, strict=True)]
    return [one & (1 - other) for one, other in zip(correct, rejected, strict=True)]


def measure_rejection(record: Mapping[str, Any]) -> dict[str, float] | None:
    """How a defense rejects images, each number the mean over the draws of a stochastic defense.

    Args:
        record: A cell of the store with status ``ok``.

    Returns:
        ``clean_rate`` and ``adversarial_rate``, the shares of clean and of adversarial images that are rejected;
        ``auroc``, the probability that the score of an adversarial image is larger than that of a clean one; and
        ``accuracy_rejected_wrong``, the share of all samples that are accepted and predicted correctly, both clean and
        attacked. None for a defense that rejects nothing. Samples that a targeted attack leaves alone are not counted
        as adversarial images.
    """
    if record.get("adversarial_scores") is None:
        return None
    rejected = np.asarray(record["adversarial_rejected"], dtype=bool)
    rows = np.ones(rejected.shape[1], dtype=bool)
    if record.get("targets") is not None:
        rows = np.asarray(record["targets"]) >= 0
    robust = record.get("robust_draws")
    if not robust:
        robust = [np.asarray(record["clean_correct"], bool) & np.asarray(record["adversarial_correct"], bool)]
    scores = zip(record["clean_scores"], record["adversarial_scores"], strict=True)
    return {
        "clean_rate": float(np.asarray(record["clean_rejected"], dtype=bool).mean()),
        "adversarial_rate": float(rejected[:, rows].mean()),
        "auroc": float(np.mean([auroc(np.asarray(clean), np.asarray(attacked)[rows]) for clean, attacked in scores])),
        "accuracy_rejected_wrong": float((np.asarray(robust, dtype=bool) & ~rejected).mean()),
    }


def auroc(negatives: Any, positives: Any) -> float:
    """The area under the ROC curve: the probability that a positive's score is above a negative's, ties counting half.

    Args:
        negatives: Scores, at least one.
        positives: The same.
    """
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    ties = np.searchsorted(ordered, positives, side="right") - below
    return float((below + ties / 2).mean() / len(ordered))
