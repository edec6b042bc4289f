"""Confidence intervals of proportions."""

from __future__ import annotations

import math

__all__ = ["at_least", "wilson"]

_Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion.

    Unlike the normal approximation it stays in [0, 1] and has a width at 0 % and 100 %.

    Args:
        successes: How many of the trials; the mean over repetitions where there are several.
        trials: How many in all; at least 1.

    Returns:
        Lower and upper end.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} of {trials} is no proportion")
    share, z2 = successes / trials, _Z95**2
    centre = share + z2 / (2 * trials)
    spread = _Z95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    scale = 1 + z2 / trials
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def at_least(successes: int, trials: int, probability: float) -> float:
    """The exact probability of so many successes or more, of a binomial distribution.

    Args:
        successes: How many, from 0 to ``trials``.
        trials: How many in all.
        probability: That of one success.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no proportion")
    if successes == 0 or probability >= 1:
        return 1.0
    if probability <= 0:
        return 0.0
    logs = (
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        + k * math.log(probability)
        + (trials - k) * math.log1p(-probability)
        for k in range(successes, trials + 1)
    )
    return min(1.0, math.fsum(map(math.exp, logs)))
