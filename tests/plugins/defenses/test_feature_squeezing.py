"""Feature squeezing: its squeezers beside SciPy's, and what it rejects on MNIST."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import median_filter
from tests.conftest import Called

from advbench.api import ParameterError
from advbench.testing.fixtures import example_images
from advbench_defenses.feature_squeezing import FeatureSqueezing
from advbench_defenses.non_local_means import non_local_means

pytestmark = pytest.mark.slow


def copies(detector: FeatureSqueezing, images: torch.Tensor) -> list[torch.Tensor]:
    return list(detector.squeezed(images))


def test_the_defaults_are_the_papers_for_grey_and_for_colour() -> None:
    grey, colour = example_images((1, 28, 28)), example_images((3, 32, 32))
    bits, median = copies(FeatureSqueezing(), grey)
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(median, copies(FeatureSqueezing(bits=0), grey)[0])
    bits, median, means = copies(FeatureSqueezing(), colour)
    assert torch.allclose(bits * 31, (bits * 31).round(), atol=1e-5)
    assert len(bits.unique()) > 16
    assert torch.equal(means, non_local_means(colour, 2 / 255, 13, 3))


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_median_is_scipys(size: int) -> None:
    images = example_images((3, 32, 32))
    (median,) = copies(FeatureSqueezing(bits=0, median=size, strength=0), images)
    expected = np.stack([[median_filter(plane, size) for plane in image] for image in images.numpy()])
    assert np.array_equal(median.numpy(), expected)


def test_non_local_means_are_the_weighted_means_of_the_formula() -> None:
    images = torch.rand(1, 2, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    filtered = non_local_means(images, 0.3, 5, 3)
    padded = np.pad(images[0].numpy(), ((0, 0), (3, 3), (3, 3)), mode="reflect")
    row, column, total, weights = 4, 2, np.zeros(2), 0.0
    own = padded[:, row + 2 : row + 5, column + 2 : column + 5]
    for down in range(-2, 3):
        for right in range(-2, 3):
            other = padded[:, row + 2 + down : row + 5 + down, column + 2 + right : column + 5 + right]
            weight = np.exp(-((own - other) ** 2).mean() / 0.3**2)
            total, weights = total + weight * other[:, 1, 1], weights + weight
    assert np.allclose(filtered[0, :, row, column].numpy(), total / weights)


def test_every_copy_has_a_gradient() -> None:
    images = (0.05 + 0.9 * example_images((3, 32, 32))).requires_grad_()
    for copy in copies(FeatureSqueezing(), images):
        (gradient,) = torch.autograd.grad(copy.square().sum(), images)
        assert gradient.isfinite().all()
        assert gradient.any()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"search": 12}, "search=12: must be odd"),
        ({"patch": 2}, "patch=2: must be odd"),
        ({"bits": 0, "median": 1, "strength": 0.0}, "leaves no copy to compare with"),
    ],
)
def test_parameters_without_a_meaning_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        FeatureSqueezing(**parameters)


def test_it_does_not_take_images_without_a_copy_or_smaller_than_its_windows() -> None:
    assert "leave no copy of images with one channel" in FeatureSqueezing(bits=0, median=1).incompatibility((1, 28, 28))
    assert "too large for images of 4×4" in FeatureSqueezing().incompatibility((3, 4, 4))
    assert not FeatureSqueezing().incompatibility((3, 32, 32))


@pytest.fixture
def mnist(call: Callable[..., Called], tmp_path: Path) -> Callable[..., dict[tuple[str, str], dict[str, Any]]]:
    """Runs an attack on MNIST under both threats; returns the cells by threat and defense."""

    def run(attack: str, limit: int, *defenses: str) -> dict[tuple[str, str], dict[str, Any]]:
        target = tmp_path / "results.json"
        called = call(
            *("matrix", "--datasets", "mnist-5k", "--models", "mnist-cnn", "--limit", limit, "--attacks", attack),
            *("--threats", "oblivious", "adaptive", "--defenses", *defenses),
            *("--store", tmp_path / "store", "--export", target),
        )
        assert called.code == 0, called.err
        cells = json.loads(target.read_text())["cells"]
        return {(cell["threat"], cell["short"]["defense"]): cell for cell in cells}

    return run


def test_on_mnist_it_rejects_few_clean_and_many_adversarial_images(mnist: Callable[..., Any]) -> None:
    cells = mnist("pgd:eps=0.2", 200, "none", "feature-squeezing")
    plain, oblivious, adaptive = (
        cells[key]
        for key in (("oblivious", "none"), ("oblivious", "feature-squeezing"), ("adaptive", "feature-squeezing"))
    )
    assert 0.02 < oblivious["rejection"]["clean_rate"] < 0.085
    assert oblivious["rejection"]["adversarial_rate"] > 0.5
    assert oblivious["rejection"]["auroc"] > 0.9
    assert oblivious["robust_accuracy"] > plain["robust_accuracy"] + 0.3
    assert adaptive["robust_accuracy"] < oblivious["robust_accuracy"] - 0.02
    assert adaptive["rejection"]["auroc"] < oblivious["rejection"]["auroc"]


def test_an_attacker_who_knows_it_gets_past_the_median(mnist: Callable[..., Any]) -> None:
    cells = mnist("apgd:eps=0.3,steps=30", 60, "feature-squeezing:bits=0")
    oblivious, adaptive = (cells[threat, "feature-squeezing:bits=0"] for threat in ("oblivious", "adaptive"))
    assert oblivious["clean_accuracy"] > 0.85
    assert adaptive["robust_accuracy"] < min(0.3, oblivious["robust_accuracy"])
