"""Paired comparison of two defenses on the same samples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from advbench.analysis.measures import robust_bits

__all__ = ["Comparison", "compare_records", "holm", "mcnemar"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two defended models on the same samples.

    Attributes:
        n: How many samples.
        first: Robust accuracy of the one.
        second: Robust accuracy of the other.
        only_first: How many samples the one alone withstands.
        only_second: How many the other alone does.
        p: McNemar's exact p-value.
    """

    n: int
    first: float
    second: float
    only_first: int
    only_second: int
    p: float


def compare_records(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> Comparison:
    """Compares two defended models, each by its worst case over some cells.

    Args:
        first: Finished cells of the one; one cell for a single attack.
        second: Finished cells of the other, on the same samples in the same order.

    Of a stochastic defense that was drawn several times the first draw counts, since the test is of samples.
    """
    bits = [[all(sample) for sample in zip(*map(robust_bits, records), strict=True)] for records in (first, second)]
    pairs = list(zip(*bits, strict=True))
    only_first = sum(a and not b for a, b in pairs)
    only_second = sum(b and not a for a, b in pairs)
    n = len(pairs)
    return Comparison(n, sum(bits[0]) / n, sum(bits[1]) / n, only_first, only_second, mcnemar(only_first, only_second))


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test: how likely so uneven a split of the samples on which two classifiers differ is by chance.

    Args:
        only_first: On how many samples the first alone is right.
        only_second: On how many the second alone is.

    Returns:
        The two-sided p-value, of a binomial distribution with probability one half; 1 where they differ on none.

    Source: McNemar 1947; Dietterich 1998, Approximate Statistical Tests, section 3.1 (there the approximate form).
    """
    if only_first < 0 or only_second < 0:
        raise ValueError(f"{only_first} and {only_second} are no counts")
    total, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, k) for k in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**total))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in the order in which they are given.

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected
