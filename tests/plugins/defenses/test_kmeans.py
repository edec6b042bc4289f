from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from advbench.api import SampleRandom
from advbench_defenses.kmeans import KMeansQuantisation


def points(image: torch.Tensor) -> torch.Tensor:
    return image.flatten(1).T


def apply(defense: KMeansQuantisation, images: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return defense.apply(images, SampleRandom(seed, "defense", range(len(images))))


@pytest.mark.parametrize("clusters", [1, 2, 16])
def test_an_image_keeps_as_many_colours_as_there_are_clusters(images: torch.Tensor, clusters: int) -> None:
    quantised = apply(KMeansQuantisation(clusters), images)
    assert [len(points(image).unique(dim=0)) for image in quantised] == [clusters] * 5


def test_every_colour_is_the_mean_of_its_pixels(images: torch.Tensor) -> None:
    for image, quantised in zip(images, apply(KMeansQuantisation(6), images), strict=True):
        for centroid in points(quantised).unique(dim=0):
            members = (points(quantised) == centroid).all(dim=1)
            torch.testing.assert_close(points(image)[members].mean(dim=0), centroid, atol=1e-6, rtol=0)


def test_every_pixel_takes_the_nearest_centroid(images: torch.Tensor) -> None:
    for image, quantised in zip(images, apply(KMeansQuantisation(6), images), strict=True):
        centroids = points(quantised).unique(dim=0)
        taken = (points(image) - points(quantised)).norm(dim=1)
        nearest = (points(image)[:, None] - centroids).norm(dim=2).amin(dim=1)
        torch.testing.assert_close(taken, nearest, atol=1e-6, rtol=0)


def test_more_iterations_come_nearer_to_the_image(images: torch.Tensor) -> None:
    def error(iterations: int) -> float:
        return float((apply(KMeansQuantisation(6, iterations), images) - images).square().mean())

    assert error(1) > error(3) > error(100)


def test_one_seed_gives_one_result_and_another_seed_another(images: torch.Tensor) -> None:
    first = apply(KMeansQuantisation(6), images, seed=0)
    again = apply(KMeansQuantisation(6), images, seed=0)
    other = apply(KMeansQuantisation(6), images, seed=1)
    assert torch.equal(first, again)
    assert all(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_stream_goes_on_between_applications(grey: torch.Tensor) -> None:
    rng = SampleRandom(0, "defense", range(5))
    assert not torch.equal(KMeansQuantisation(6).apply(grey, rng), KMeansQuantisation(6).apply(grey, rng))


@pytest.mark.parametrize("colours", [1, 3, 4])
def test_an_image_with_no_more_colours_than_clusters_is_returned_as_it_is(images: torch.Tensor, colours: int) -> None:
    palette = images.flatten(2)[:, :, 3::7][:, :, :colours].clone()
    palette[:, 0] = torch.linspace(0.1, 0.9, colours)
    chosen = torch.arange(16 * 11) % colours
    few = palette[:, :, chosen].view_as(images)
    assert [len(points(image).unique(dim=0)) for image in few] == [colours] * 5
    assert torch.equal(apply(KMeansQuantisation(4), few), few)


def test_colours_too_near_to_be_told_apart_are_no_reason_to_warn() -> None:
    shades = torch.tensor([0.0, 1e-30, 2e-30, 3e-30, 1.0]).repeat(5)
    with pytest.warns(ConvergenceWarning):
        KMeans(4, init="random", n_init=1).fit(shades[:5, None].numpy().astype(np.float64))
    image = shades.view(1, 1, 5, 5)
    torch.testing.assert_close(apply(KMeansQuantisation(4), image), image)
