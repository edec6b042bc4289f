"""Comparing attacks on the same samples; differences that chance explains are not findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from advbench.analysis.paired import holm, randomisation_test
from advbench.analysis.sanity.finding import AttackOutcome, Finding, tolerance

__all__ = ["SIGNIFICANCE", "Comparison", "compare_outcomes", "significant"]

SIGNIFICANCE = 0.05
"""Significance level for all comparisons of one criterion in a run together."""


class Comparison(NamedTuple):
    """One comparison of two attacks by a criterion.

    Attributes:
        p: The one-sided p-value of the difference.
        finding: Makes the finding.
    """

    p: float
    finding: Callable[[], Finding]


def compare_outcomes(strong: AttackOutcome, weak: AttackOutcome, n: int, finding: Callable[[], Finding]) -> Comparison:
    """Tests whether the attack that should be stronger leaves a higher accuracy than the weaker one.

    Args:
        strong: The result of the attack that should be at least as strong.
        weak: The result of the other attack.
        n: Number of samples.
        finding: Makes the finding.
    """
    if strong.accuracy <= weak.accuracy + tolerance(n):
        return Comparison(1.0, finding)
    return Comparison(randomisation_test(strong.withstood, weak.withstood), finding)


def significant(comparisons: Iterable[Comparison]) -> Iterator[Finding]:
    """The findings of the significant comparisons, after Holm's correction for their number."""
    compared = list(comparisons)
    for comparison, p in zip(compared, holm([each.p for each in compared]), strict=True):
        if p < SIGNIFICANCE:
            yield comparison.finding()
