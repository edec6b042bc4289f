"""Transformations with random numbers: resizing and padding, crops, and blocks of JPEG."""

from __future__ import annotations

import pytest
import torch

from advbench.api import Defense, ParameterError, SampleRandom
from advbench_defenses.jpeg import JpegCompression
from advbench_defenses.transformations import resize_pad
from advbench_defenses.transformations.crop_ensemble import CropEnsemble
from advbench_defenses.transformations.gaussian_noise import GaussianNoise
from advbench_defenses.transformations.resize_pad import ResizeAndPad
from advbench_defenses.transformations.shield import Shield

RNG = SampleRandom(0, "defense", range(5))


def many(image: torch.Tensor, count: int = 400) -> tuple[torch.Tensor, SampleRandom]:
    return image.expand(count, *image.shape[1:]), SampleRandom(0, "defense", range(count))


def test_resized_images_are_those_of_torch_at_all_sizes_and_places() -> None:
    image = 0.1 + 0.9 * torch.rand(
        1, 3, 10, 10, generator=torch.Generator().manual_seed(0)
    )  # all pixels differ from the padding
    seen = set()
    for padded in ResizeAndPad(0.7, 1.2, 13).apply(*many(image)):
        rows, columns = (padded[0].any(dim=dim).nonzero().flatten() for dim in (1, 0))
        tall, broad, top, left = len(rows), len(columns), int(rows[0]), int(columns[0])
        assert tall == broad
        expected = torch.nn.functional.interpolate(image, size=(tall, broad), mode="nearest")[0]
        assert torch.equal(padded[:, top : top + tall, left : left + broad], expected)
        seen.add((tall, top))
    assert {tall for tall, _ in seen} == set(range(7, 13))
    assert {top for tall, top in seen if tall == 7} == set(range(7))
    assert {top for tall, top in seen if tall == 12} == {0, 1}


@pytest.mark.parametrize(("height", "width", "defense"), [(224, 224, (0.875, 1.0)), (96, 130, (0.6, 1.3, 180))])
def test_large_images_and_their_gradients_are_those_of_small_ones(
    height: int, width: int, defense: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = torch.Generator().manual_seed(0)
    images = torch.rand(30, 3, height, width, generator=draws, requires_grad=True)
    results = []
    for large in (resize_pad.LARGE, height * width + 1):
        monkeypatch.setattr(resize_pad, "LARGE", large)
        padded = ResizeAndPad(*defense).apply(images, SampleRandom(0, "defense", range(30)))
        weights = torch.rand(padded.shape, generator=torch.Generator().manual_seed(1))
        (gradient,) = torch.autograd.grad((weights * padded**3).sum(), images, create_graph=True)
        (second,) = torch.autograd.grad(gradient.sum(), images)
        results.append((padded, gradient, second))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
    assert torch.equal(results[0][0], results[1][0])


def test_images_that_keep_their_size_stay_what_they_are(images: torch.Tensor) -> None:
    assert torch.equal(ResizeAndPad(1.0, 1.0).apply(images, RNG), images)


def test_the_papers_sizes() -> None:
    defense = ResizeAndPad(1.037, 1.104, 331)
    assert defense.output_shape((3, 299, 299)) == (3, 331, 331)
    assert not defense.incompatibility((3, 299, 299))
    padded = defense.apply(*many(torch.ones(1, 1, 299, 299), 60))
    sides = padded[:, 0].amax(dim=1).sum(dim=1)
    assert 310 <= sides.min() <= 313
    assert 327 <= sides.max() <= 330


def test_images_that_would_not_fit_are_refused() -> None:
    assert "do not fit into 32×32 after resizing; set output to at least 35" in ResizeAndPad(0.9, 1.1).incompatibility(
        (3, 32, 32)
    )
    with pytest.raises(ParameterError, match=r"smallest=1\.2: must be at most largest=1"):
        ResizeAndPad(1.2)


def test_gaussian_noise_has_the_given_standard_deviation_and_keeps_pixels_within_bounds() -> None:
    grey = torch.full((1, 1, 20, 20), 0.5)
    noisy = GaussianNoise(0.1).apply(*many(grey))
    assert noisy.mean() == pytest.approx(0.5, abs=1e-3)
    assert noisy.std() == pytest.approx(0.1, rel=0.01)
    assert not torch.equal(noisy[0], noisy[1])
    wide = GaussianNoise(2.0).apply(*many(grey, 10))
    assert (wide.min(), wide.max()) == (0, 1)
    assert GaussianNoise(0.0).apply(grey, RNG) is grey
    assert not GaussianNoise(0.0).stochastic


class Mean(torch.nn.Module):
    """Two classes whose logits are the mean of the pixels, times 5, and 0."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = 5 * images.flatten(1).mean(dim=1)
        return torch.stack((means, torch.zeros_like(means)), dim=1)


def test_crops_are_the_images_parts_and_their_probabilities_are_averaged() -> None:
    column = torch.tensor([0.0, 1.0]).repeat_interleave(5).expand(1, 1, 10, 10)  # the left half black, the right white
    defense = CropEnsemble(200, side=0.5)
    # The left edge is at one of 0 to 5 with equal probability, so that 0 to 5 of 5 columns are white.
    expected = sum(torch.tensor(5 * white / 5).sigmoid() for white in range(6)) / 6
    shares = defense.classify(Mean(), *many(column, 30)).softmax(dim=1)
    torch.testing.assert_close(shares[:, 0].mean(), torch.as_tensor(expected), atol=0.01, rtol=0)
    assert shares[:, 0].std() > 0
    single = defense.attacked(Mean(), *many(column))[:, 0]
    assert {round(float(value), 3) for value in single} == {0, 1, 2, 3, 4, 5}


def test_crops_of_the_whole_image_are_the_image(images: torch.Tensor) -> None:
    logits = CropEnsemble(3, side=1).classify(Mean(), images, RNG)
    torch.testing.assert_close(logits, Mean()(images).log_softmax(dim=1))


def test_crops_are_enlarged_as_torch_does() -> None:
    image = torch.rand(1, 3, 12, 8, generator=torch.Generator().manual_seed(1))
    crops = {
        (top, left): torch.nn.functional.interpolate(
            image[:, :, top : top + 6, left : left + 4], size=(12, 8), mode="bilinear", align_corners=False
        )
        for top in range(7)
        for left in range(5)
    }
    seen = []

    class Seeing(Mean):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return super().forward(images)

    CropEnsemble(30, side=0.5).classify(Seeing(), image, RNG[:1])
    for crop in torch.cat(seen):
        assert any(torch.allclose(crop, expected[0], atol=1e-6) for expected in crops.values())


def test_shield_takes_each_block_from_one_of_its_qualities(images: torch.Tensor) -> None:
    versions = torch.stack([JpegCompression(quality).apply(images, RNG) for quality in (20, 40, 60, 80)])
    used = set()
    for draw in range(4):
        shielded = Shield().apply(images, SampleRandom(draw, "defense", range(5)))
        for sample in range(len(images)):
            for top in (0, 8):
                for left in (0, 8):
                    block = (sample, slice(None), slice(top, top + 8), slice(left, left + 8))
                    same = [bool((version[block] == shielded[block]).all()) for version in versions]
                    assert any(same)
                    if sum(same) == 1:
                        used.add(same.index(True))
    assert used == {0, 1, 2, 3}


def test_shields_approximation_has_the_same_blocks(images: torch.Tensor) -> None:
    rng = SampleRandom(3, "defense", range(5))
    shielded, approximated = (
        Shield().apply(images, rng),
        Shield().approximation(images, SampleRandom(3, "defense", range(5))),
    )
    others = Shield().apply(images, SampleRandom(4, "defense", range(5)))
    assert (approximated - shielded).square().mean() < (approximated - others).square().mean()


@pytest.mark.parametrize(
    ("lowest", "highest", "number", "expected"), [(20, 80, 4, [20, 40, 60, 80]), (30, 90, 1, [30])]
)
def test_the_qualities_are_in_equal_steps(lowest: int, highest: int, number: int, expected: list[int]) -> None:
    assert Shield(lowest, highest, number)._qualities == expected


def test_shield_refuses_images_that_jpeg_does_not_take() -> None:
    assert Shield().incompatibility((4, 32, 32)) == "shield takes images of 1 or 3 channels, not 4"
    with pytest.raises(ParameterError, match="highest=10: must be at least lowest=20"):
        Shield(highest=10)


@pytest.mark.parametrize(
    ("defense", "stochastic"),
    [
        (Shield(), True),
        (Shield(qualities=1), False),
        (Shield(80, 80), False),
        (ResizeAndPad(), True),
        (ResizeAndPad(0.9, 0.9), True),
        (ResizeAndPad(1, 1), False),
        (CropEnsemble(), True),
        (CropEnsemble(side=1), False),
    ],
    ids=str,
)
def test_only_what_is_drawn_is_stochastic(defense: Defense, stochastic: bool) -> None:
    assert defense.stochastic is stochastic
