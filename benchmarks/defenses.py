"""Compares defenses with a loop over images that calls a library: time per image, and agreement of results."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from advbench.api import Defense, SampleRandom
from advbench.discovery.loading import discover
from advbench.specs import resolve_one
from benchmarks.samples import load_images
from benchmarks.timing import time_interleaved

__all__ = ["HEADERS", "compare", "defense_rows", "gaussian_loop", "jpeg_loop", "kmeans_loop", "tv_loop"]

Images: TypeAlias = "npt.NDArray[np.float32]"
Loop: TypeAlias = Callable[[Images], Images]

HEADERS = ("images", "defense", "ms", "CPU ms", "the loop", "its ms", "its CPU ms", "ratio", "agreement")
"""The columns; times are per image, and the ratio is of wall times."""


def jpeg_loop(quality: int) -> Loop:
    """Writes and reads one JPEG file per image with Pillow."""

    def run(images: Images) -> Images:
        from PIL import Image

        out = np.empty_like(images)
        for image, result in zip(images, out, strict=True):
            pixels = np.rint(image * 255).clip(0, 255).astype(np.uint8)
            encoded = Image.fromarray(
                np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
            )
            file = io.BytesIO()
            encoded.save(file, "JPEG", quality=quality)
            with Image.open(file) as decoded_file:
                decoded = np.asarray(decoded_file).reshape(*image.shape[1:], -1).transpose(2, 0, 1)
            result[:] = decoded.astype(np.float32) / np.float32(255)
        return out

    return run


def kmeans_loop(clusters: int, iterations: int) -> Loop:
    """Clusters each image's pixels by scikit-learn's k-means with default settings, from one start."""

    def run(images: Images) -> Images:
        import warnings

        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        kind: Any = KMeans
        out = np.empty_like(images)
        for image, result in zip(images, out, strict=True):
            pixels = image.reshape(len(image), -1).T
            model = kind(clusters, n_init=1, max_iter=iterations, random_state=0)
            with warnings.catch_warnings():  # an image with fewer colours than clusters
                warnings.simplefilter("ignore", ConvergenceWarning)
                labels = model.fit_predict(pixels)
            result[:] = model.cluster_centers_[labels].T.reshape(image.shape)
        return out

    return run


def gaussian_loop(sigma: float) -> Loop:
    """Applies SciPy's Gaussian filter to each image."""

    def run(images: Images) -> Images:
        from scipy.ndimage import gaussian_filter  # type: ignore[attr-defined,unused-ignore]

        return np.stack([gaussian_filter(image, (0, sigma, sigma), mode="nearest") for image in images])

    return run


def tv_loop(weight: float) -> Loop:
    """Applies scikit-image's split Bregman to each image; it has no mask, so it solves another problem."""

    def run(images: Images) -> Images:
        from skimage.restoration import denoise_tv_bregman

        # A single channel is returned without its axis.
        outputs = [
            denoise_tv_bregman(image, weight=2 / weight, channel_axis=0).reshape(image.shape) for image in images
        ]
        return np.stack(outputs).astype(np.float32)

    return run


@dataclass(frozen=True)
class Pair:
    """A defense, the loop to compare it with, and the measure of agreement."""

    spec: str
    library: str
    loop: Loop
    agreement: Callable[[Images, Images, Images], str]


def compare(limit: int, *, repeats: int, seed: int, data_dir: Path | None) -> Iterator[list[Any]]:
    """Yields a row of :data:`HEADERS` for each dataset and defense.

    The CIFAR-10 images are those bundled with advbench's dependencies, repeated with a little noise, so that nothing
    has to be downloaded.
    """
    grey = load_images("mnist-5k", limit, seed=seed, data_dir=data_dir)[0]
    bundled = load_images("cifar10-20", limit, seed=seed, data_dir=data_dir)[0]
    noise = torch.randn(limit, *bundled.shape[1:], generator=torch.Generator().manual_seed(seed))
    colour = (bundled[torch.arange(limit) % len(bundled)] + 0.01 * noise).clamp(0, 1)
    for name, images, clusters in (("MNIST", grey, 16), ("CIFAR-10", colour, 50)):
        for pair in _pairs(clusters):
            yield [name, *_compare_pair(pair, images, repeats, seed)]


def defense_rows(images: torch.Tensor, repeats: int) -> Iterator[tuple[str, float, str, float, str]]:
    """Yields for each defense its spec, its CPU seconds, the library of its loop, the loop's, and the agreement."""
    for pair in _pairs(16 if images.shape[1] == 1 else 50 if images.shape[2] < 100 else 16):
        spec, _, ours, library, _, theirs, _, agreement = _compare_pair(pair, images, repeats, seed=0)
        yield spec, ours * len(images) / 1000, library, theirs * len(images) / 1000, agreement


def _pairs(clusters: int) -> tuple[Pair, ...]:
    return (
        Pair("jpeg:quality=75", "Pillow", jpeg_loop(75), _same_bytes),
        Pair("gaussian:sigma=0.5", "SciPy", gaussian_loop(0.5), _difference),
        Pair(f"kmeans:clusters={clusters}", "scikit-learn", kmeans_loop(clusters, 300), _inertia),
        Pair("tvm", "scikit-image, no mask", tv_loop(0.03), lambda *_: "not comparable"),
    )


def _compare_pair(pair: Pair, images: torch.Tensor, repeats: int, seed: int) -> list[Any]:
    defense = resolve_one(discover(), "defenses", pair.spec)
    assert isinstance(defense, Defense)
    plain, count = images.numpy(), len(images)

    def apply(images: torch.Tensor) -> Images:
        outputs: Images = defense.apply(images, SampleRandom(seed, "defense", range(len(images)))).numpy()
        return outputs

    apply(images[:2])  # libraries are imported at first use
    pair.loop(plain[:2])
    timed = time_interleaved({"advbench": lambda: apply(images), "loop": lambda: pair.loop(plain)}, repeats)
    ours, loop = timed["advbench"], timed["loop"]
    assert ours.result is not None
    assert loop.result is not None
    return [
        pair.spec, 1000 * ours.median / count, 1000 * ours.cpu_median / count, pair.library,
        1000 * loop.median / count, 1000 * loop.cpu_median / count, ours.median / loop.median,
        pair.agreement(plain, ours.result, loop.result),
    ]  # fmt: skip


def _same_bytes(_: Images, ours: Images, loop: Images) -> str:
    same = np.array_equal(np.rint(ours * 255), np.rint(loop * 255))
    return "equal bytes" if same else "different bytes"


def _difference(_: Images, ours: Images, loop: Images) -> str:
    return f"within {np.abs(ours - loop).max():.0e}"


def _inertia(images: Images, ours: Images, loop: Images) -> str:
    ratio = np.square(ours - images).sum() / np.square(loop - images).sum()
    return f"inertia {ratio:.3f} of the loop's"
