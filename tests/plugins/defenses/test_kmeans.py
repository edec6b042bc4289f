from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from advbench.api import SampleRandom
from advbench_defenses import lloyd, soft_assignment
from advbench_defenses.kmeans import KMeansQuantisation
from advbench_defenses.lloyd import quantise
from advbench_defenses.soft_assignment import SOFTENINGS, Softening, soft_quantise

Make = Callable[..., KMeansQuantisation]


@pytest.fixture(params=["native", "scikit-learn"])
def kmeans(request: pytest.FixtureRequest) -> Make:
    """Makes the defense with one engine after the other."""
    return partial(KMeansQuantisation, engine=request.param)


def points(image: torch.Tensor) -> torch.Tensor:
    return image.flatten(1).T


def apply(defense: KMeansQuantisation, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return defense.apply(images, SampleRandom(seed, "defense", range(len(images))))


@pytest.mark.parametrize("clusters", [1, 2, 16])
def test_an_image_has_as_many_colours_as_clusters(images: torch.Tensor, clusters: int, kmeans: Make) -> None:
    quantised = apply(kmeans(clusters), images)
    assert [len(points(image).unique(dim=0)) for image in quantised] == [clusters] * 5


def test_every_colour_is_the_mean_of_its_pixels(images: torch.Tensor, kmeans: Make) -> None:
    for image, quantised in zip(images, apply(kmeans(6), images), strict=True):
        for centroid in points(quantised).unique(dim=0):
            members = (points(quantised) == centroid).all(dim=1)
            torch.testing.assert_close(points(image)[members].mean(dim=0), centroid, atol=1e-6, rtol=0)


def test_every_pixel_takes_the_nearest_centroid(images: torch.Tensor, kmeans: Make) -> None:
    for image, quantised in zip(images, apply(kmeans(6), images), strict=True):
        centroids = points(quantised).unique(dim=0)
        taken = (points(image) - points(quantised)).norm(dim=1)
        nearest = (points(image)[:, None] - centroids).norm(dim=2).amin(dim=1)
        torch.testing.assert_close(taken, nearest, atol=1e-6, rtol=0)


def test_more_iterations_come_nearer_to_the_image(images: torch.Tensor, kmeans: Make) -> None:
    def error(iterations: int) -> float:
        return float((apply(kmeans(6, iterations), images) - images).square().mean())

    assert error(1) > error(3) > error(100)


def test_results_depend_on_the_seed_only(images: torch.Tensor, kmeans: Make) -> None:
    first = apply(kmeans(6), images, seed=0)
    again = apply(kmeans(6), images, seed=0)
    other = apply(kmeans(6), images, seed=1)
    assert torch.equal(first, again)
    # From starts as good as these, one of these small images may well end with the same colours.
    assert sum(not torch.equal(a, b) for a, b in zip(first, other, strict=True)) >= 3


def test_successive_calls_use_successive_draws(grey: torch.Tensor, kmeans: Make) -> None:
    rng = SampleRandom(0, "defense", range(5))
    assert not torch.equal(kmeans(6).apply(grey, rng), kmeans(6).apply(grey, rng))


@pytest.mark.parametrize("colours", [1, 3, 4])
def test_an_image_with_at_most_as_many_colours_as_clusters_is_unchanged(
    images: torch.Tensor, colours: int, kmeans: Make
) -> None:
    palette = images.flatten(2)[:, :, 3::7][:, :, :colours].clone()
    palette[:, 0] = torch.linspace(0.1, 0.9, colours)
    chosen = torch.arange(16 * 11) % colours
    few = palette[:, :, chosen].view_as(images)
    assert [len(points(image).unique(dim=0)) for image in few] == [colours] * 5
    assert torch.equal(apply(kmeans(4), few), few)


def test_indistinguishable_colours_raise_no_warning(kmeans: Make) -> None:
    shades = torch.tensor([0.0, 1e-30, 2e-30, 3e-30, 1.0]).repeat(5)
    with pytest.warns(ConvergenceWarning):
        KMeans(4, init="random", n_init=1).fit(shades[:5, None].numpy().astype(np.float64))
    image = shades.view(1, 1, 5, 5)
    torch.testing.assert_close(apply(kmeans(4), image), image)


@pytest.mark.parametrize("clusters", [2, 5, 16])
@pytest.mark.parametrize("iterations", [1, 4, 100])
def test_large_images_are_clustered_like_small_ones(
    clusters: int, iterations: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(7)
    smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 9, 9, generator=generator), (104, 101), mode="bilinear")
    few_colours = torch.rand(2, 3, 104, 101, generator=generator).mul(4).round().div(4)  # with ties and equal points
    images = torch.cat([smooth, few_colours, torch.rand(1, 3, 104, 101, generator=generator) ** 6])
    defense = KMeansQuantisation(clusters, iterations)
    with_bounds = apply(defense, images)
    monkeypatch.setattr(lloyd, "_MIN_POINTS_WITH_BOUNDS", 10**9)
    assert torch.equal(with_bounds, apply(defense, images))
    assert torch.equal(with_bounds[3:4], defense.apply(images[3:4], SampleRandom(0, "defense", [3])))


@pytest.mark.slow
@pytest.mark.parametrize("clusters", [2, 5, 12])
def test_native_has_as_low_an_inertia_as_scikit_learn(clusters: int) -> None:
    generator = torch.Generator().manual_seed(6)
    images = torch.rand(60, 3, 9, 9, generator=generator) ** 2
    for given in (images, images[:, :1]):
        native, theirs = (
            sum(
                (apply(KMeansQuantisation(clusters, engine=engine), given, seed) - given).square().mean()
                for seed in range(8)
            )
            for engine in ("native", "scikit-learn")
        )
        assert native <= 1.05 * theirs


def test_grey_images_are_clustered_like_their_rgb_copies(grey: torch.Tensor) -> None:
    in_colour = apply(KMeansQuantisation(6), grey.expand(-1, 3, -1, -1).contiguous())
    torch.testing.assert_close(in_colour, apply(KMeansQuantisation(6), grey).expand(-1, 3, -1, -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("channels", "min_points"), [(1, 10_000), (3, 10_000), (3, 1)])
def test_no_cluster_stays_empty(channels: int, min_points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lloyd, "_MIN_POINTS_WITH_BOUNDS", min_points)
    # Of so many small sets of very uneven points some have a centroid that loses all that it had.
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(2000, 30, channels, generator=generator) ** 6
    quantised = quantise(points, torch.rand(2000, 8, 4, generator=generator), 100)
    assert [len(one.unique(dim=0)) for one in quantised] == [8] * 2000


def test_an_images_result_does_not_depend_on_its_batch(images: torch.Tensor, kmeans: Make) -> None:
    whole = apply(kmeans(6), images)
    alone = kmeans(6).apply(images[3:4], SampleRandom(0, "defense", [3]))
    assert torch.equal(alone[0], whole[3])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_on_a_gpu_equal_those_on_the_cpu(channels: int) -> None:
    generator = torch.Generator().manual_seed(3)
    # Of few levels, so that there are ties for rounding to decide of.
    images = torch.randint(0, 64, (16, channels, 32, 32), generator=generator) / 255
    defense = KMeansQuantisation(50)
    together = defense.apply(images.cuda(), SampleRandom(0, "defense", range(16), "cuda"))
    assert together.is_cuda
    assert torch.equal(together.cpu(), apply(defense, images))
    alone = defense.apply(images[7:8].cuda(), SampleRandom(0, "defense", [7], "cuda"))
    assert torch.equal(alone, together[7:8])


def directional_derivative(
    defense: KMeansQuantisation, images: torch.Tensor, direction: torch.Tensor, number: int
) -> torch.Tensor:
    """How an approximation changes along a direction, by autograd twice."""
    points, rng = images.clone().requires_grad_(), SampleRandom(0, "defense", range(len(images)))
    passed = defense.approximations()[number](points, apply(defense, images), rng)
    dual = torch.zeros_like(passed, requires_grad=True)
    (transposed,) = torch.autograd.grad(passed, points, dual, create_graph=True)
    return torch.autograd.grad(transposed, dual, direction)[0]


@pytest.mark.parametrize("number", range(len(SOFTENINGS)))
def test_the_approximations_predict_how_colours_move(images: torch.Tensor, kmeans: Make, number: int) -> None:
    images, shift = images.clamp(0.1, 0.9), torch.full_like(images, 0.01)
    change = directional_derivative(kmeans(6), images, shift, number)
    # Shifting all colours of an image shifts all of its centroids; the share of the colours themselves comes on top.
    torch.testing.assert_close(change, (1 + SOFTENINGS[number].share) * shift, atol=1e-5, rtol=0)


def test_the_gradient_is_largest_where_a_pixel_is_about_to_change_its_cluster() -> None:
    plane = torch.tensor([0.0, 0.0, 0.05, 0.44, 0.56, 0.95, 1.0, 1.0])
    points = plane[None, :, None].requires_grad_()
    quantised = torch.where(plane < 0.5, plane[:4].mean(), plane[4:].mean())[None, :, None]
    out = soft_quantise(points, quantised, Softening(0.25, 0.3))
    own = torch.stack([torch.autograd.grad(out[0, i, 0], points, retain_graph=True)[0][0, i, 0] for i in range(8)])
    assert own.min() > 0.3
    assert own[3:5].min() > 3 * own[[0, 1, 2, 5, 6, 7]].max()


def test_the_approximation_of_a_given_output_is_the_same(images: torch.Tensor, kmeans: Make) -> None:
    defense, rng = kmeans(6), SampleRandom(0, "defense", range(len(images)))
    output = apply(defense, images)
    first = defense.approximations()[0](images, output, rng)
    assert torch.equal(first, defense.approximation_from_output(images, output, rng))
    assert torch.equal(first, defense.approximation(images, rng))


def test_many_points_are_softened_in_blocks(images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def gradient() -> torch.Tensor:
        pictures = images.clone().requires_grad_()
        passed = KMeansQuantisation(6).approximation(pictures, SampleRandom(0, "defense", range(len(images))))
        return torch.autograd.grad(passed.square().sum(), pictures)[0]

    together = gradient()
    monkeypatch.setattr(soft_assignment, "_BLOCK_VALUES", 1)
    torch.testing.assert_close(gradient(), together, atol=1e-4, rtol=1e-4)
