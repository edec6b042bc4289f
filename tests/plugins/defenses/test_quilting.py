from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from tests.training import make_job

from advbench.api import LabelledImages, ParameterError, SampleRandom, WeightsError
from advbench_defenses.transformations.quilting import ImageQuilting
from advbench_defenses.transformations.seams import grid, join_patches

pytestmark = pytest.mark.slow

RNG = SampleRandom(0, "defense", range(5))


def database_of(images: torch.Tensor, folder: Path, patch: int = 5) -> Path:
    """A database of all patches of some images, made by the recipe."""
    labelled = LabelledImages(images, torch.zeros(len(images), dtype=torch.int64), torch.arange(len(images)))
    none = LabelledImages(images[:0], torch.zeros(0, dtype=torch.int64), torch.arange(0))
    dataset = "mnist" if images.shape[1] == 1 else "cifar10"
    data = {f"{dataset}:split=train": labelled, "mnist-5k": none}
    job = make_job(folder / f"{dataset}-{patch}.safetensors", data, {}, dataset=dataset, epochs=1)
    sidecar = ImageQuilting(patch=patch).train(job)
    assert sidecar["patch"] == patch
    return job.output


@pytest.fixture
def eight_bit(images: torch.Tensor) -> torch.Tensor:
    return (images * 255).round() / 255


@pytest.mark.parametrize(("patch", "dtype"), [(5, torch.float32), (4, torch.float32), (5, torch.uint8)])
def test_images_whose_patches_are_in_the_database_come_back(
    eight_bit: torch.Tensor, tmp_path: Path, patch: int, dtype: torch.dtype
) -> None:
    stored = (eight_bit * 255).round().to(dtype) if dtype == torch.uint8 else eight_bit
    database = database_of(stored, tmp_path, patch)
    quilted = ImageQuilting(nearest=1, patch=patch, weights=str(database)).apply(eight_bit, RNG)
    torch.testing.assert_close(quilted, eight_bit, rtol=0, atol=1e-6)


def test_every_pixel_comes_from_one_of_the_nearest_patches(grey: torch.Tensor, tmp_path: Path) -> None:
    database = database_of((grey * 255).round() / 255, tmp_path)
    defense = ImageQuilting(nearest=3, weights=str(database))
    other = grey.flip(3).clamp(0.05, 0.9)
    patches = defense._database(1, other.device)
    tops, lefts = grid(16, 5, 2), grid(11, 5, 2)
    squares = defense._patches(other, tops, lefts)
    nearest = (squares[:, :, None] - patches.flatten(1)).square().sum(dim=3).topk(3, dim=2, largest=False).indices
    quilted = defense.apply(other, RNG)
    for sample, (row, top), (column, left) in itertools.product(range(5), enumerate(tops), enumerate(lefts)):
        reached_by = [
            (t, e) for t, e in itertools.product(tops, lefts) if 0 <= top + 2 - t < 5 and 0 <= left + 2 - e < 5
        ]
        if len(reached_by) == 1:
            candidates = patches[nearest[sample, row * len(lefts) + column]][:, 0, 2, 2]
            assert quilted[sample, 0, top + 2, left + 2] in candidates
    assert not torch.equal(quilted, defense.apply(other, SampleRandom(1, "defense", range(5))))


def test_the_seam_is_the_cheapest_of_all() -> None:
    patches = torch.rand(3, 1, 2, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    joined = join_patches(patches, [0], [0, 2])
    assert joined.shape == (3, 1, 5, 7)
    for sample in range(3):
        first, second = patches[sample, 0, :, 0]
        difference = (first[:, 2:] - second[:, :3]).square()
        ways = [
            w for w in itertools.product(range(3), repeat=5) if all(abs(a - b) <= 1 for a, b in itertools.pairwise(w))
        ]
        seam = min(ways, key=lambda way: float(sum(difference[row, column] for row, column in enumerate(way))))
        for row, column in enumerate(seam):
            expected = torch.cat((first[row, : 2 + column], second[row, column:]))
            assert torch.equal(joined[sample, 0, row], expected)


@pytest.mark.parametrize(("length", "expected"), [(28, [0, 3, 6, 9, 12, 15, 18, 21, 23]), (5, [0]), (8, [0, 3])])
def test_the_grid_covers_the_image(length: int, expected: list[int]) -> None:
    assert grid(length, 5, 2) == expected


def test_the_soft_choice_is_near_the_nearest_patches_and_follows_the_image(grey: torch.Tensor, tmp_path: Path) -> None:
    database = database_of((grey * 255).round() / 255, tmp_path)
    defense = ImageQuilting(nearest=5, weights=str(database))
    leaf = (0.9 * grey + 0.03).requires_grad_()
    soft = defense.approximation(leaf, RNG)
    assert (soft - ImageQuilting(nearest=1, weights=str(database)).apply(leaf, RNG)).abs().mean() < 0.1
    soft.square().sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.flatten(1).norm(dim=1).min() > 0


def test_the_shipped_databases_quilt_digits_and_colour_images() -> None:
    stroke = (1.2 - (torch.arange(28)[:, None] - torch.arange(28)).abs() / 2.5).clamp(0, 1)
    coarse = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=(50, 50), mode="bilinear")
    for images in (stroke.expand(2, 1, 28, 28), smooth[:, :, :32, :32], smooth):
        quilted = ImageQuilting().apply(images, RNG[:2])
        assert quilted.shape == images.shape
        assert (quilted - images).abs().mean() < 0.1
        assert torch.equal((quilted * 255).round() / 255, quilted)


def test_what_does_not_fit_is_refused(grey: torch.Tensor, tmp_path: Path) -> None:
    assert "patches of 1 and 3 channels, not of 4" in ImageQuilting().incompatibility((4, 28, 28))
    assert "patches of 5 pixels do not fit into images of 4×28" in ImageQuilting().incompatibility((1, 4, 28))
    with pytest.raises(ParameterError, match="overlap=5: must be below patch=5"):
        ImageQuilting(overlap=5)
    with pytest.raises(ParameterError, match=r"weights=patches\.npz"):
        ImageQuilting(weights="patches.npz")
    missing = ImageQuilting(patch=7)
    with pytest.raises(WeightsError, match="'advbench train quilting:patch=7 --dataset mnist --output"):
        missing.weights_digest()
    with pytest.raises(WeightsError, match="'advbench train quilting:patch=7 --dataset cifar10 --output"):
        missing.apply(grey.expand(-1, 3, -1, -1), RNG)
    database = database_of((grey * 255).round() / 255, tmp_path)
    with pytest.raises(WeightsError, match="has no patches of 3 channels and 5×5 pixels"):
        ImageQuilting(weights=str(database)).apply(grey.expand(-1, 3, -1, -1), RNG)
    other = ImageQuilting(patch=6, weights=str(database)).incompatibility((1, 16, 11))
    assert "has patches of 1 channels and 5×5 pixels, not of 1 and 6×6; it is for patch=5" in other


def test_the_shipped_patches_of_digits_have_strokes() -> None:
    patches = ImageQuilting()._database(1, torch.device("cpu"))
    assert (patches.amin(dim=(1, 2, 3)) == 0).float().mean() > 0.5
    assert (patches[:, 0, 2, 2] > 0.9).float().mean() > 0.1


def test_the_soft_choice_weights_a_hundred_patches_by_their_distances(grey: torch.Tensor) -> None:
    defense, image = ImageQuilting(nearest=1), grey[:1, :, :5, :5].clone().requires_grad_()
    candidates = defense._database(1, image.device).flatten(1)
    distances, nearest = (candidates - image.flatten()).square().mean(dim=1).topk(100, largest=False)
    expected = (-distances / 0.02).softmax(dim=0) @ candidates[nearest]
    soft = defense.approximation(image, RNG[:1]).flatten()
    torch.testing.assert_close(soft, expected, rtol=1e-5, atol=1e-5)
    for direction in (torch.ones(25), torch.arange(25.0)):
        gradients = [
            torch.autograd.grad(output @ direction, image, retain_graph=True)[0] for output in (soft, expected)
        ]
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


def test_one_nearest_patch_is_deterministic_and_has_both_approximations() -> None:
    assert not ImageQuilting(nearest=1).stochastic
    assert len(ImageQuilting(nearest=1).approximations()) == len(ImageQuilting().approximations()) == 2


def test_further_draws_of_the_same_images_search_no_neighbours(
    grey: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    searches, patches = [], ImageQuilting._patches

    def counted(self: ImageQuilting, images: torch.Tensor, *grids: list[int]) -> torch.Tensor:
        searches.append(images)
        return patches(self, images, *grids)

    def draws(defense: ImageQuilting, images: torch.Tensor) -> list[torch.Tensor]:
        return [defense.apply(images, RNG.derive(f"{number}")) for number in range(3)]

    monkeypatch.setattr(ImageQuilting, "_patches", counted)
    changed = grey.clone()
    with torch.inference_mode():
        first = draws(ImageQuilting(), changed)
    assert len(searches) == 1
    assert not torch.equal(first[0], first[1])
    changed[:, :, 3:9] *= 0.5  # in place
    assert not torch.equal(draws(ImageQuilting(), changed)[0], first[0])
    assert len(searches) == 2
    draws(ImageQuilting(nearest=4), changed)
    assert len(searches) == 3
    assert all(torch.equal(one, other) for one, other in zip(first, draws(ImageQuilting(), grey), strict=True))
    ImageQuilting().approximation(grey.clone().requires_grad_(), RNG).sum().backward()


def test_the_recipe_takes_each_patch_once(grey: torch.Tensor, tmp_path: Path) -> None:
    database = database_of(torch.zeros_like(grey), tmp_path)
    assert len(ImageQuilting(weights=str(database))._database(1, grey.device)) == 1
