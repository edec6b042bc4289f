from __future__ import annotations

from typing import Any

import pytest
from scipy.stats import binomtest

from advbench.analysis.paired import compare_records, holm, mcnemar


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 3), (0, 6), (5, 12), (40, 70), (900, 1000)])
def test_mcnemars_test_is_the_exact_binomial_one(first: int, second: int) -> None:
    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, abs=1e-12)
    assert mcnemar(second, first) == mcnemar(first, second)


def test_counts_below_zero_are_none() -> None:
    with pytest.raises(ValueError, match="no counts"):
        mcnemar(-1, 3)


def test_holms_correction() -> None:
    # Three tests: .01 · 3, then .02 · 2, then .5 · 1, never falling, never above 1.
    assert holm([0.5, 0.01, 0.02]) == pytest.approx([0.5, 0.03, 0.04])
    assert holm([0.04, 0.03]) == pytest.approx([0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def record(*robust: int) -> dict[str, Any]:
    return {"clean_correct": [1] * len(robust), "adversarial_correct": list(robust)}


def test_samples_are_compared_one_by_one() -> None:
    found = compare_records([record(1, 1, 0, 0, 1, 0)], [record(1, 0, 1, 1, 1, 0)])
    assert (found.n, found.first, found.second) == (6, 0.5, pytest.approx(4 / 6))
    assert (found.only_first, found.only_second) == (1, 2)
    assert found.p == 1.0


def test_the_worst_case_is_taken_sample_by_sample() -> None:
    found = compare_records([record(1, 1, 0), record(0, 1, 1)], [record(1, 1, 1), record(1, 1, 1)])
    assert (found.first, found.second) == (pytest.approx(1 / 3), 1.0)
    assert (found.only_first, found.only_second) == (0, 2)
