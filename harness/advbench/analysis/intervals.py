"""Confidence intervals and tail probabilities of the binomial distribution."""

from __future__ import annotations

import math

__all__ = ["binomial_tail", "wilson"]

_Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


def wilson(successes: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion.

    In contrast to the normal approximation, it stays within [0, 1], and its width is not zero at 0 % and 100 %.

    Args:
        successes: Number of successes; the mean if there are several repetitions.
        trials: Number of trials; at least 1.

    Returns:
        Lower and upper bound.

    Raises:
        ValueError: ``successes`` is not in [0, trials], or there are no trials.

    Source: Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} of {trials} is not a proportion")
    share, z2 = successes / trials, _Z95**2
    centre = share + z2 / (2 * trials)
    spread = _Z95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    scale = 1 + z2 / trials
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def binomial_tail(successes: int, trials: int, probability: float) -> float:
    """The exact probability of at least this many successes in a binomial distribution.

    This is ``scipy.stats.binom.sf(successes - 1, trials, probability)``, without importing SciPy.

    Args:
        successes: Number of successes, from 0 to ``trials``.
        trials: Number of trials.
        probability: Probability of success in one trial.

    Raises:
        ValueError: ``successes`` is not in [0, trials].
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is not a proportion")
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
