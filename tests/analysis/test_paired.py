from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from advbench.analysis.intervals import binomial_tail
from advbench.analysis.paired import compare_records, holm, mcnemar, randomisation_test


@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (1, 0), (3, 3), (0, 6), (5, 12), (40, 70), (3, 400), (900, 1000)]
)
def test_mcnemars_test_is_the_exact_binomial_one(first: int, second: int) -> None:
    total = first + second
    tail = sum(math.comb(total, k) for k in range(min(first, second) + 1))  # whole numbers, so that nothing is rounded
    expected = min(Fraction(1), Fraction(2 * tail, 2**total))
    assert mcnemar(first, second) == pytest.approx(float(expected), abs=1e-12, rel=1e-10)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_negative_counts_are_an_error() -> None:
    with pytest.raises(ValueError, match="no counts"):
        mcnemar(-1, 3)


def test_holms_correction() -> None:
    # Three tests: .01 · 3, then .02 · 2, then .5 · 1; never decreasing, never above 1.
    assert holm([0.5, 0.01, 0.02]) == pytest.approx([0.5, 0.03, 0.04])
    assert holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def record(*robust: int) -> dict[str, Any]:
    return {"clean_correct": [1] * len(robust), "adversarial_correct": list(robust)}


def test_samples_are_compared_pairwise() -> None:
    compared = compare_records([record(1, 1, 0, 0, 1, 0)], [record(1, 0, 1, 1, 1, 0)])
    assert (compared.n, compared.first, compared.second) == (6, 0.5, pytest.approx(4 / 6))
    assert (compared.only_first, compared.only_second) == (1, 2)
    assert compared.p == 1.0


def test_the_worst_case_over_cells_is_taken_per_sample() -> None:
    compared = compare_records([record(1, 1, 0), record(0, 1, 1)], [record(1, 1, 1), record(1, 1, 1)])
    assert (compared.first, compared.second) == (pytest.approx(1 / 3), 1.0)
    assert (compared.only_first, compared.only_second) == (0, 2)


def test_with_one_draw_the_randomisation_test_is_mcnemars_one_sided_test() -> None:
    assert randomisation_test([0b11110000], [0b00000001]) == pytest.approx(mcnemar(4, 1) / 2)
    assert randomisation_test([0b1], [0b1]) == 1
    assert randomisation_test([0], [0b111]) == 1


def test_the_randomisation_test_equals_an_enumeration_of_all_signs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        more, fewer = ([int(number) for number in rng.integers(0, 256, 3)] for _ in range(2))
        bits = [np.array([[number >> i & 1 for i in range(8)] for number in one]).sum(axis=0) for one in (more, fewer)]
        differences = bits[0] - bits[1]
        signs = np.array(list(itertools.product([-1, 1], repeat=8)))
        share = np.mean((signs * np.abs(differences)).sum(axis=1) >= differences.sum())
        assert randomisation_test(more, fewer) == pytest.approx(share)


@pytest.mark.parametrize(("successes", "trials", "probability"), [(3, 10, 0.2), (30, 1000, 0.02), (5000, 10000, 0.5)])
def test_binomial_tails_equal_scipy(successes: int, trials: int, probability: float) -> None:
    wanted = binom.sf(successes - 1, trials, probability)
    assert binomial_tail(successes, trials, probability) == pytest.approx(wanted, rel=1e-6)
