"""The Clopper-Pearson bound on the probability of an event, from how often it happened."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["lower_bound"]

_HALVINGS = 60


def lower_bound(successes: int, trials: int, alpha: float) -> float:
    """The one-sided Clopper-Pearson bound: the largest p with P[Bin(trials, p) ≥ successes] ≤ alpha, rounded down.

    The probability of an event is at least this bound with confidence 1 - alpha, whatever the probability is.

    Source: Clopper and Pearson 1934, The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial.
    """
    if successes == 0:
        return 0.0
    if successes == trials:
        return math.nextafter(alpha ** (1 / trials), 0.0)
    counts = np.arange(successes, trials + 1)
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, trials + 1)))))  # of the factorials
    ways = logs[trials] - logs[counts] - logs[trials - counts]
    low, high = 0.0, successes / trials
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        terms = ways + counts * math.log(middle) + (trials - counts) * math.log1p(-middle)
        if np.exp(terms).sum() <= alpha:
            low = middle
        else:
            high = middle
    return low
