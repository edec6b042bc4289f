"""Tests that the defense keeps advbench's contract and equals SciPy's median filter."""

from __future__ import annotations

from pathlib import Path

import advbench
import numpy as np
import pytest
import torch
from advbench.api import ParameterError, SampleRandom
from advbench.testing import assert_conforms
from scipy.ndimage import median_filter

from advbench_median_filter import MedianFilter


def test_it_keeps_the_contract() -> None:
    assert_conforms("median-filter")
    assert_conforms(MedianFilter(5))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_it_equals_scipys_median_filter(size: int) -> None:
    images = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    expected = median_filter(images.numpy(), size=(1, 1, size, size), mode="mirror")
    assert np.array_equal(MedianFilter(size).apply(images, SampleRandom(0, "test", range(2))).numpy(), expected)


def test_an_even_size_is_rejected() -> None:
    with pytest.raises(ParameterError, match="size=4: must be odd"):
        MedianFilter(4)


def test_it_runs_in_the_matrix(tmp_path: Path) -> None:
    results = advbench.matrix(
        defenses=["none", "median-filter"],
        datasets="mnist-20",
        models="mnist-cnn",
        attacks="fgsm",
        store=tmp_path,
        quiet=True,
    )
    assert results.ok, results
