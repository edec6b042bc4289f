from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from skimage.restoration import denoise_tv_bregman

from advbench.api import SampleRandom
from advbench_defenses import tvm
from advbench_defenses.split_bregman import BORDERS
from advbench_defenses.tvm import TotalVariationMinimisation

pytestmark = pytest.mark.slow

Plane = list[list[float]]


class FixedMask(SampleRandom):
    """Streams whose Bernoulli draw is given."""

    def __init__(self, dropped: torch.Tensor) -> None:
        super().__init__(0, "defense", range(len(dropped)))
        self._dropped = dropped

    def __getitem__(self, index: torch.Tensor | Sequence[int] | slice) -> FixedMask:
        return FixedMask(self._dropped[index])

    def bernoulli(self, probability: float, *shape: int) -> torch.Tensor:
        assert self._dropped.shape[1:] == shape
        return self._dropped


def reference(defense: TotalVariationMinimisation, image: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
    """Masked split Bregman for one image, pixel after pixel in the published order."""
    channels, height, width = image.shape
    mu = 1 / defense.weight
    ell = 2 * mu
    f = image.double().tolist()
    kept = (~dropped | (image == 0)).tolist()
    u = torch.where(dropped, 0, image).double().tolist()
    dx, dy, bx, by = (torch.zeros(image.shape, dtype=torch.float64).tolist() for _ in range(4))

    def at(plane: Plane, r: int, c: int) -> float:
        return plane[r][c] if 0 <= r < height and 0 <= c < width else 0.0

    for _ in range(defense.iterations):
        before = torch.tensor(u, dtype=torch.float64)
        for _ in range(defense.sweeps):
            for r in range(height):
                for c in range(width):
                    for k in range(channels):
                        n = (r > 0) + (r < height - 1) + (c > 0) + (c < width - 1)
                        neighbours = at(u[k], r - 1, c) + at(u[k], r + 1, c) + at(u[k], r, c - 1) + at(u[k], r, c + 1)
                        bregman = at(dx[k], r, c - 1) - dx[k][r][c] - at(bx[k], r, c - 1) + bx[k][r][c]
                        bregman += at(dy[k], r - 1, c) - dy[k][r][c] - at(by[k], r - 1, c) + by[k][r][c]
                        total = neighbours + bregman
                        if kept[k][r][c]:
                            u[k][r][c] = (ell * total + mu * f[k][r][c]) / (mu + n * ell)
                        else:
                            u[k][r][c] = total / (4 if defense.border == "published" else max(n, 1))
        for k in range(channels):
            for r in range(height):
                for c in range(width):
                    ux = u[k][r][c + 1] - u[k][r][c] if c < width - 1 else 0.0
                    uy = u[k][r + 1][c] - u[k][r][c] if r < height - 1 else 0.0
                    tx, ty = ux + bx[k][r][c], uy + by[k][r][c]
                    s = math.hypot(tx, ty)
                    dx[k][r][c] = s * ell * tx / (s * ell + 1)
                    dy[k][r][c] = s * ell * ty / (s * ell + 1)
                    bx[k][r][c] += ux - dx[k][r][c]
                    by[k][r][c] += uy - dy[k][r][c]
        if float((torch.tensor(u, dtype=torch.float64) - before).square().mean().sqrt()) <= defense.tolerance:
            break
    return torch.tensor(u, dtype=torch.float64)


def assert_equals_reference(defense: TotalVariationMinimisation, images: torch.Tensor, dropped: torch.Tensor) -> None:
    restored = defense.apply(images, FixedMask(dropped))
    expected = torch.stack([reference(defense, *pair) for pair in zip(images, dropped, strict=True)])
    torch.testing.assert_close(restored.double(), expected, atol=1e-6, rtol=0)


def half(images: torch.Tensor) -> torch.Tensor:
    return torch.rand(images.shape, generator=torch.Generator().manual_seed(5)) < 0.5


@pytest.mark.parametrize(
    "defense",
    [
        TotalVariationMinimisation(iterations=1, sweeps=1),
        TotalVariationMinimisation(iterations=1, sweeps=3),
        TotalVariationMinimisation(iterations=4, sweeps=2, tolerance=0),
        TotalVariationMinimisation(weight=0.5, iterations=3, sweeps=40, tolerance=0),
        TotalVariationMinimisation(tolerance=0.003),
        TotalVariationMinimisation(),
        TotalVariationMinimisation(border="neighbours", iterations=1, sweeps=1),
        TotalVariationMinimisation(border="neighbours", tolerance=0.003),
        TotalVariationMinimisation(border="neighbours"),
    ],
    ids=str,
)
def test_it_equals_the_published_sweep_order(defense: TotalVariationMinimisation, images: torch.Tensor) -> None:
    part = images[:3, :, :9, :7]
    assert_equals_reference(defense, part, half(part))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)], ids=str)
def test_images_of_common_sizes_equal_the_published_sweep_order(colour: torch.Tensor, shape: tuple[int, ...]) -> None:
    image = torch.nn.functional.interpolate(colour[:1, : shape[0]], size=shape[1:], mode="bilinear")
    assert_equals_reference(TotalVariationMinimisation(), image, half(image))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (6, 1), (2, 9), (9, 2), (5, 5)])
def test_every_shape_equals_the_published_sweep_order(
    images: torch.Tensor, height: int, width: int, border: str
) -> None:
    part = images[:3, :, -height:, :width]
    assert_equals_reference(TotalVariationMinimisation(iterations=3, tolerance=0, border=border), part, half(part))


@pytest.mark.parametrize("border", BORDERS)
def test_dropped_edges_and_corners_equal_the_published_ones(images: torch.Tensor, border: str) -> None:
    part = images[:, :, 4:9, 2:8].clamp(min=0.1)
    dropped = torch.ones(part.shape, dtype=torch.bool)
    dropped[..., 1:-1, 1:-1] = False
    defense = TotalVariationMinimisation(border=border)
    assert_equals_reference(defense, part, dropped)
    assert_equals_reference(defense, part, ~dropped)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)], ids=str)
def test_a_uniform_image_keeps_its_brightness_at_the_border_by_neighbours_only(shape: tuple[int, ...]) -> None:
    flat = torch.full((20, *shape), 0.8)

    def restore(border: str, tolerance: float) -> torch.Tensor:
        defense = TotalVariationMinimisation(border=border, tolerance=tolerance)
        return defense.apply(flat, SampleRandom(0, "defense", range(20)))

    corners = (..., [0, 0, -1, -1], [0, -1, 0, -1])
    for tolerance in (0.01, 1e-5):
        published = restore("published", tolerance)[corners]
        assert published.min() < 0.05
        assert published.mean() < 0.5
        assert restore("neighbours", tolerance)[corners].mean() > 0.78
    torch.testing.assert_close(restore("neighbours", 1e-5), flat, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("border", "divisor"), [("published", 4), ("neighbours", 1)])
def test_one_sweep_by_hand(border: str, divisor: int) -> None:
    image = torch.tensor([[[[0.8, 0.4, 0.6]]]])
    dropped = torch.tensor([[[[True, False, False]]]])
    defense = TotalVariationMinimisation(weight=0.25, iterations=1, sweeps=1, border=border)
    restored = defense.apply(image, FixedMask(dropped))
    first = 0.4 / divisor  # the pixel has one neighbour
    second = (8 * (first + 0.6) + 4 * 0.4) / (4 + 2 * 8)
    third = (8 * second + 4 * 0.6) / (4 + 1 * 8)
    torch.testing.assert_close(restored.flatten(), torch.tensor([first, second, third]))


def test_a_dropped_pixel_that_was_black_counts_as_kept() -> None:
    image = torch.full((1, 1, 3, 3), 0.5)
    image[0, 0, 1, 1] = 0
    nothing = torch.zeros_like(image, dtype=torch.bool)
    centre = nothing.clone()
    centre[0, 0, 1, 1] = True
    defense = TotalVariationMinimisation()
    assert torch.equal(defense.apply(image, FixedMask(centre)), defense.apply(image, FixedMask(nothing)))
    grey = image.clone()
    grey[0, 0, 1, 1] = 0.01
    assert defense.apply(grey, FixedMask(nothing))[0, 0, 1, 1] < 0.4
    assert defense.apply(grey, FixedMask(centre))[0, 0, 1, 1] > 0.49


def test_with_nothing_dropped_the_masked_solver_equals_the_published_sweep_order(images: torch.Tensor) -> None:
    nothing = torch.zeros(images[:2].shape, dtype=torch.bool)
    assert_equals_reference(TotalVariationMinimisation(), images[:2], nothing)


@pytest.mark.parametrize("tolerance", [0.01, 0.001])
@pytest.mark.parametrize("weight", [0.03, 0.3])
def test_without_drop_it_equals_scikit_image(images: torch.Tensor, weight: float, tolerance: float) -> None:
    defense = TotalVariationMinimisation(drop=0, weight=weight, tolerance=tolerance)
    restored = defense.apply(images, SampleRandom(0, "defense", range(5)))
    assert restored.dtype == torch.float32
    assert restored.is_contiguous()
    for image, output in zip(images, restored, strict=True):
        pixels = image.permute(1, 2, 0).double().numpy()
        expected = denoise_tv_bregman(pixels, weight=1 / weight, eps=tolerance).reshape(pixels.shape)
        torch.testing.assert_close(output.permute(1, 2, 0).double(), torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_without_drop_it_is_deterministic_and_ends_after_the_iterations(images: torch.Tensor) -> None:
    defense = TotalVariationMinimisation(drop=0, tolerance=0)
    assert not defense.stochastic
    restored = [defense.apply(images, SampleRandom(seed, "defense", range(5))) for seed in (0, 1)]
    assert torch.equal(*restored)
    shorter = dataclasses.replace(defense, iterations=2).apply(images, SampleRandom(0, "defense", range(5)))
    assert not torch.allclose(shorter, restored[0], atol=1e-3)


def test_without_drop_images_one_pixel_high_or_wide_are_incompatible() -> None:
    for shape in ((1, 1, 6), (3, 6, 1)):
        assert TotalVariationMinimisation(drop=0).incompatibility(shape) == (
            f"tvm with drop=0 needs images of at least 2 x 2 pixels, not of {shape}"
        )
        assert not TotalVariationMinimisation().incompatibility(shape)
    assert not TotalVariationMinimisation(drop=0).incompatibility((1, 2, 2))


def test_the_mask_is_one_draw_for_each_pixel_and_channel(colour: torch.Tensor) -> None:
    defense = TotalVariationMinimisation(drop=0.3)
    dropped = SampleRandom(7, "defense", range(5)).bernoulli(0.3, 3, 16, 11)
    restored = defense.apply(colour, SampleRandom(7, "defense", range(5)))
    assert torch.equal(restored, defense.apply(colour, FixedMask(dropped)))


def test_images_stop_at_their_own_iteration(grey: torch.Tensor) -> None:
    mixed = torch.cat([grey, torch.full((1, 1, 16, 11), 0.5)])
    dropped = half(mixed)
    dropped[5] = False

    def outcome(iterations: int) -> torch.Tensor:
        return TotalVariationMinimisation(tolerance=0.002, iterations=iterations).apply(mixed, FixedMask(dropped))

    final = outcome(100)
    finished = [next(i for i in range(1, 101) if torch.equal(outcome(i)[k], final[k])) for k in range(6)]
    assert finished[5] == 1
    assert len(set(finished)) > 2
    assert max(finished) < 100


@pytest.mark.parametrize(("most", "least"), [(1, 1), (400, 1), (10**9, 1), (1000, 10**9)])
def test_results_do_not_depend_on_the_size_of_parts(
    images: torch.Tensor, most: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = TotalVariationMinimisation().apply(images, SampleRandom(0, "defense", range(5)))
    monkeypatch.setattr(tvm, "_MAX_VALUES", most)
    monkeypatch.setattr(tvm, "_MIN_VALUES", least)
    assert torch.equal(TotalVariationMinimisation().apply(images, SampleRandom(0, "defense", range(5))), expected)


@pytest.mark.parametrize(
    ("count", "values", "threads", "sizes"),
    [
        (200, 3072, 2, [50] * 4),
        (250, 784, 2, [125, 125]),
        (100, 784, 2, [100]),
        (1000, 3072, 2, [62, 63] * 8),
        (1000, 3072, 1, [62, 63] * 8),
        (1, 10**6, 4, [1]),
        (0, 784, 2, []),
    ],
)
def test_threads_get_equal_parts_that_are_neither_too_small_nor_too_large(
    count: int, values: int, threads: int, sizes: list[int]
) -> None:
    parts = tvm._parts(count, values, threads)
    assert [part.stop - part.start for part in parts] == sizes
    assert [at for part in parts for at in range(part.start, part.stop)] == list(range(count))


def test_a_uniform_image_with_nothing_dropped_stays_as_it_is() -> None:
    image = torch.full((1, 3, 6, 7), 0.3)
    restored = TotalVariationMinimisation(drop=0).apply(image, SampleRandom(0, "defense", [0]))
    torch.testing.assert_close(restored, image)


def test_a_larger_weight_is_smoother(images: torch.Tensor) -> None:
    def variation(weight: float) -> float:
        defense = TotalVariationMinimisation(drop=0, weight=weight, tolerance=1e-4)
        restored = defense.apply(images, SampleRandom(0, "defense", range(5))).numpy()
        return float(np.abs(np.diff(restored, axis=2)).sum() + np.abs(np.diff(restored, axis=3)).sum())

    variations = [variation(weight) for weight in (0.001, 0.03, 0.1, 0.5)]
    assert variations == sorted(variations, reverse=True)
    assert variations[0] > 1.5 * variations[-1]


def test_the_result_is_not_clamped() -> None:
    stripes = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]).repeat(6, 1).view(1, 1, 6, 6)
    restored = TotalVariationMinimisation().apply(stripes, FixedMask(torch.zeros_like(stripes, dtype=torch.bool)))
    assert restored.min() < -0.001
    assert restored.max() > 1.001


def test_the_linearisation_predicts_how_the_restoration_changes(images: torch.Tensor) -> None:
    defense, dropped = TotalVariationMinimisation(tolerance=0.0001), half(images)
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(6))
    images, step = images.clamp(min=0.1), 0.03 * noise.sign()  # no value is 0, which would count as kept
    output = defense.apply(images, FixedMask(dropped))
    change = defense.apply(images + step, FixedMask(dropped)) - output

    def stand_in(points: torch.Tensor) -> torch.Tensor:
        return defense.approximation_from_output(points, output, FixedMask(dropped))

    predicted = stand_in(images + step) - stand_in(images)
    assert (predicted - change).square().mean() < 0.3 * (step - change).square().mean()
    assert (predicted - change).square().mean() < 0.5 * change.square().mean()


def test_the_approximation_draws_what_apply_draws(images: torch.Tensor) -> None:
    defense = TotalVariationMinimisation()
    streams = [SampleRandom(3, "defense", range(5)) for _ in range(3)]
    output = defense.apply(images, streams[0])
    approximation = defense.approximation(images, streams[1])
    assert torch.equal(approximation, defense.approximation_from_output(images, output, streams[2]))


def test_a_dropped_value_has_no_gradient(images: torch.Tensor) -> None:
    dropped, points = half(images), images.clone().requires_grad_()
    passed = TotalVariationMinimisation().approximation(points, FixedMask(dropped))
    (gradient,) = torch.autograd.grad(passed.sum(), points)
    assert not gradient[dropped].any()
    assert (gradient[~dropped] > 0).all()
