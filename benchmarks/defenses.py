"""Each defense beside the loop over images that its library invites to: time an image, and whether they agree."""

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
from benchmarks.timing import take_turns

__all__ = ["HEADERS", "compare", "gaussian_loop", "jpeg_loop", "kmeans_loop", "tv_loop"]

Images: TypeAlias = "npt.NDArray[np.float32]"
Loop: TypeAlias = Callable[[Images], Images]

HEADERS = ("images", "defense", "ms", "CPU ms", "the loop", "its ms", "its CPU ms", "ratio", "agreement")
"""The columns; times are of an image, and the ratio is of wall times."""


def jpeg_loop(quality: int) -> Loop:
    """A JPEG file an image, written and read with Pillow."""

    def run(images: Images) -> Images:
        from PIL import Image

        out = np.empty_like(images)
        for image, result in zip(images, out, strict=True):
            pixels = np.rint(image * 255).clip(0, 255).astype(np.uint8)
            picture = Image.fromarray(
                np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
            )
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=quality)
            with Image.open(file) as read:
                decoded = np.asarray(read).reshape(*image.shape[1:], -1).transpose(2, 0, 1)
            result[:] = decoded.astype(np.float32) / np.float32(255)
        return out

    return run


def kmeans_loop(clusters: int, iterations: int) -> Loop:
    """scikit-learn's k-means of an image's pixels with its own defaults, from one start."""

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
    """SciPy's Gaussian filter, an image at a time."""

    def run(images: Images) -> Images:
        from scipy.ndimage import gaussian_filter  # type: ignore[attr-defined,unused-ignore]

        return np.stack([gaussian_filter(image, (0, sigma, sigma), mode="nearest") for image in images])

    return run


def tv_loop(weight: float) -> Loop:
    """scikit-image's split Bregman, an image at a time; it is without a mask, and so another problem."""

    def run(images: Images) -> Images:
        from skimage.restoration import denoise_tv_bregman

        # A single channel comes back without its axis.
        made = [denoise_tv_bregman(one, weight=2 / weight, channel_axis=0).reshape(one.shape) for one in images]
        return np.stack(made).astype(np.float32)

    return run


@dataclass(frozen=True)
class Pair:
    """A defense, the loop beside it, and how well they agree."""

    spec: str
    library: str
    loop: Loop
    agreement: Callable[[Images, Images, Images], str]


def compare(limit: int, *, repeats: int, seed: int, data_dir: Path | None) -> Iterator[list[Any]]:
    """A row of :data:`HEADERS` for each dataset and defense.

    The CIFAR-10 images are those that come with advbench, each several times with a little noise, so that nothing
    has to be downloaded.
    """
    grey = load_images("mnist-5k", limit, seed=seed, data_dir=data_dir)[0]
    few = load_images("cifar10-20", limit, seed=seed, data_dir=data_dir)[0]
    noise = torch.randn(limit, *few.shape[1:], generator=torch.Generator().manual_seed(seed))
    colour = (few[torch.arange(limit) % len(few)] + 0.01 * noise).clamp(0, 1)
    for name, images, clusters in (("MNIST", grey, 16), ("CIFAR-10", colour, 50)):
        for pair in _pairs(clusters):
            yield [name, *_compared(pair, images, repeats, seed)]


def _pairs(clusters: int) -> tuple[Pair, ...]:
    return (
        Pair("jpeg:quality=75", "Pillow", jpeg_loop(75), _same_bytes),
        Pair("gaussian:sigma=0.5", "SciPy", gaussian_loop(0.5), _difference),
        Pair(f"kmeans:clusters={clusters}", "scikit-learn", kmeans_loop(clusters, 300), _inertia),
        Pair("tvm", "scikit-image, no mask", tv_loop(0.03), lambda *_: "not comparable"),
    )


def _compared(pair: Pair, images: torch.Tensor, repeats: int, seed: int) -> list[Any]:
    defense = resolve_one(discover(), "defenses", pair.spec)
    assert isinstance(defense, Defense)
    plain, count = images.numpy(), len(images)

    def apply(images: torch.Tensor) -> Images:
        made: Images = defense.apply(images, SampleRandom(seed, "defense", range(len(images)))).numpy()
        return made

    apply(images[:2])  # libraries are imported at first use
    pair.loop(plain[:2])
    timed = take_turns({"advbench": lambda: apply(images), "loop": lambda: pair.loop(plain)}, repeats)
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
