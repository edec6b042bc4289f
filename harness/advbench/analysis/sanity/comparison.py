"""Attacks compared on the same samples: what chance explains is no finding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from advbench.analysis.paired import holm, more_by_chance
from advbench.analysis.sanity.finding import Finding, Standing, tolerance

__all__ = ["CHANCE", "Comparison", "compared", "significant"]

CHANCE = 0.05
"""How unlikely a difference must be by chance, over all comparisons of one criterion in a run, to be a finding."""


class Comparison(NamedTuple):
    """One comparison of two attacks that a criterion makes.

    Attributes:
        p: How likely so large a difference is by chance, in the direction that would be a finding.
        finding: Makes the finding.
    """

    p: float
    finding: Callable[[], Finding]


def compared(weak: Standing, strong: Standing, n: int, finding: Callable[[], Finding]) -> Comparison:
    """Compares what should leave less, ``weak``, with what should leave no less, ``strong``, on ``n`` samples."""
    if weak.share <= strong.share + tolerance(n):
        return Comparison(1.0, finding)
    return Comparison(more_by_chance(weak.withstood, strong.withstood), finding)


def significant(comparisons: Iterable[Comparison]) -> Iterator[Finding]:
    """The findings of those comparisons that chance does not explain, corrected by Holm for their number."""
    made = list(comparisons)
    for comparison, p in zip(made, holm([one.p for one in made]), strict=True):
        if p < CHANCE:
            yield comparison.finding()
