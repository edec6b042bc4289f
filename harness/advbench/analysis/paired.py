"""Paired tests of two defenses, or two attacks, on the same samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advbench.analysis.intervals import binomial_tail
from advbench.analysis.measures import robust_bits

__all__ = ["Comparison", "compare_records", "holm", "mcnemar", "randomisation_test"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two defended models on the same samples.

    Attributes:
        n: Number of samples.
        first: Robust accuracy of the first model.
        second: Robust accuracy of the second model.
        only_first: Number of samples that only the first model withstands.
        only_second: Number of samples that only the second model withstands.
        p: Two-sided p-value of McNemar's exact test.
    """

    n: int
    first: float
    second: float
    only_first: int
    only_second: int
    p: float


def compare_records(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> Comparison:
    """Compares two defended models by their worst cases over some cells.

    For a stochastic defense with several draws, the first draw is used, because the test compares single samples.

    Args:
        first: Finished cells of the first model; one cell for a single attack.
        second: Finished cells of the second model, on the same samples in the same order.
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
    if only_first == only_second:
        return 1.0  # among them no difference at all, of which SciPy takes no test
    from scipy.stats import binomtest  # takes half a second to import

    return float(binomtest(min(only_first, only_second), only_first + only_second, 0.5).pvalue)


def randomisation_test(more: Sequence[int], fewer: Sequence[int]) -> float:
    """Exact one-sided randomisation test of whether one classifier withstands more samples than another.

    Under the null hypothesis, the two classifiers are exchangeable for each sample, so the sign of each sample's
    difference is random. With one draw, this is McNemar's exact test. With several draws, the difference of a sample is
    the difference in the number of draws that withstand it.

    Args:
        more: For each draw of a stochastic defense, the samples that the first classifier withstands, as bits of an
            integer.
        fewer: The same for the second classifier, in the same order; surplus draws of either are ignored.

    Returns:
        The one-sided p-value.

    Source: Fisher 1935, The Design of Experiments, section 21 (the randomisation test).
    """
    pairs = list(zip(more, fewer, strict=False))
    if len(pairs) == 1:
        only_more, only_fewer = ((a & ~b).bit_count() for a, b in (pairs[0], pairs[0][::-1]))
        return binomial_tail(only_more, only_more + only_fewer, 0.5)
    size = max(1, max(max(a, b) for a, b in pairs).bit_length() + 7 >> 3)
    differences = sum(_bits(a, size) - _bits(b, size) for a, b in pairs)
    counts = np.bincount(np.abs(differences))  # number of samples by the size of their difference
    return _tail(counts, int(np.sum(differences)))


def _bits(number: int, size: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.unpackbits(np.frombuffer(number.to_bytes(size, "big"), dtype=np.uint8)).astype(np.int64)


def _tail(counts: np.ndarray[Any, Any], observed: int) -> float:
    """The probability that a sum of values with random signs is at least as large as the observed one.

    The distribution of the sum is computed from its characteristic function, the product of cos(size · t), by a
    discrete Fourier transform that is long enough for all values of the sum.

    Args:
        counts: Number of values of each size, from size 0.
        observed: The observed sum.
    """
    reach = int(np.sum(counts * np.arange(len(counts))))
    length = 2 * reach + 1
    angles = 2 * np.pi * np.arange(length) / length
    transformed = np.ones(length)
    for size, count in enumerate(counts[1:], start=1):
        transformed *= np.cos(size * angles) ** int(count)
    probabilities = (
        np.fft.fft(transformed).real / length
    )  # index: the sum, modulo the length; the distribution is symmetric
    sums = np.arange(max(observed, -reach), reach + 1)
    return float(np.clip(probabilities[sums].sum(), 0.0, 1.0)) if len(sums) else 0.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction of p-values for multiple tests, in the given order.

    Source: Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
