"""Compares transformations with loops over images that call a library, at 28×28, 32×32 and 224×224.

Run from the root of the checkout::

    python -m benchmarks.transformations

Both run in turn in one process. The images are those bundled with advbench's dependencies; those of 224×224 are
enlarged ones of CIFAR-10. Both give one batch, as a network needs it.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tabulate import tabulate

from advbench.api import Defense, SampleRandom
from advbench.discovery.loading import discover
from advbench.process.allocator import keep_freed_memory
from advbench.specs import resolve_one
from benchmarks.samples import load_images
from benchmarks.timing import time_interleaved

__all__ = ["LOOPS", "main", "times"]

Image = npt.NDArray[np.float32]
Loop = Callable[[Image], Any]
"""Transforms one image of shape (channels, height, width)."""


def bit_depth_loop(image: Image) -> Any:
    """Rounds with NumPy."""
    return np.rint(image * 7) / 7


def median_loop(image: Image) -> Any:
    """SciPy's median filter on each channel."""
    from scipy.ndimage import median_filter

    return np.stack([median_filter(channel, 2) for channel in image])


def non_local_means_loop(image: Image) -> Any:
    """scikit-image's non-local means, with its exact weights."""
    from skimage.restoration import denoise_nl_means

    return denoise_nl_means(image, patch_size=3, patch_distance=6, h=2 / 255, fast_mode=False, channel_axis=0)


def bilateral_loop(image: Image) -> Any:
    """scikit-image's bilateral filter, which looks the colours' weights up in a table."""
    from skimage.restoration import denoise_bilateral

    return denoise_bilateral(image, win_size=5, sigma_color=0.1, sigma_spatial=1.0, mode="edge", channel_axis=0)


def wavelet_loop(image: Image) -> Any:
    """scikit-image's wavelet denoising."""
    from skimage.restoration import denoise_wavelet

    return denoise_wavelet(image, sigma=0.04, wavelet="db1", method="BayesShrink", rescale_sigma=False, channel_axis=0)


def resize_pad_loop(image: Image) -> Any:
    """Torch's interpolation to a random size, and its padding."""
    side = image.shape[1]
    tall = int(torch.randint(int(0.875 * side), side + 1, ()))
    top, left = (int(torch.randint(side - tall + 1, ())) for _ in range(2))
    resized = torch.nn.functional.interpolate(torch.from_numpy(image)[None], size=(tall, tall), mode="nearest")
    return torch.nn.functional.pad(resized, (left, side - tall - left, top, side - tall - top))[0]


def shield_loop(image: Image) -> Any:
    """Pillow's JPEG at four qualities, of which each block of 8×8 takes one."""
    from PIL import Image as Images

    pixels = np.rint(image * 255).astype(np.uint8)
    picture = Images.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))
    versions = []
    for quality in (20, 40, 60, 80):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        with Images.open(file) as decoded:
            versions.append(np.asarray(decoded).reshape(*image.shape[1:], -1).transpose(2, 0, 1))
    blocks = -(-image.shape[1] // 8)
    choice = np.random.default_rng(0).integers(4, size=(blocks, blocks))
    choice = choice.repeat(8, axis=0).repeat(8, axis=1)[: image.shape[1], : image.shape[2]]
    return np.choose(choice, np.stack(versions)).astype(np.float32) / np.float32(255)


LOOPS: dict[str, tuple[str, Loop]] = {
    "bit-depth": ("NumPy", bit_depth_loop),
    "median": ("SciPy", median_loop),
    "non-local-means": ("scikit-image", non_local_means_loop),
    "bilateral": ("scikit-image", bilateral_loop),
    "wavelet": ("scikit-image", wavelet_loop),
    "resize-pad": ("torch", resize_pad_loop),
    "shield": ("Pillow", shield_loop),
}
"""The libraries and their loops, by the spec of the defense."""


def main() -> None:
    """Prints a row for each transformation and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--defenses", nargs="+", default=list(LOOPS), choices=list(LOOPS), help="which to compare")
    parser.add_argument("--repeats", type=int, default=7, help="number of repetitions")
    options = parser.parse_args()
    keep_freed_memory()  # as when advbench runs
    rows = []
    for name in options.defenses:
        library, loop = LOOPS[name]
        for size, all_images in _images().items():
            images = all_images[:2] if name == "non-local-means" and size == "224×224" else all_images
            ours, theirs = times(name, images, loop, options.repeats)
            rows.append((name, size, len(images), f"{ours:.3f}", library, f"{theirs:.3f}", f"{ours / theirs:.2f}"))
    head = ("transformation", "images", "number", "ms an image", "loop of", "ms an image", "ratio")
    print(f"{torch.get_num_threads()} thread(s) of {os.cpu_count()} cores; medians of {options.repeats} repetitions\n")
    print(tabulate(rows, head, tablefmt="github", disable_numparse=True))


def _images() -> dict[str, torch.Tensor]:
    grey = load_images("mnist-5k", 100, seed=0, data_dir=None)[0]
    colour = load_images("cifar10-20", 20, seed=0, data_dir=None)[0]
    large = torch.nn.functional.interpolate(colour[:8], size=(224, 224), mode="bicubic").clamp(0, 1)
    return {"28×28": grey, "32×32": colour.repeat(5, 1, 1, 1), "224×224": large}


def times(name: str, images: torch.Tensor, loop: Loop, repeats: int, *, cpu: bool = False) -> tuple[float, float]:
    """Returns the milliseconds an image of the defense and of the loop.

    Args:
        name: The defense.
        images: float32, shape (n, channels, height, width).
        loop: What transforms one image.
        repeats: Number of interleaved repetitions.
        cpu: Whether to return CPU time instead of elapsed time.
    """
    defense = resolve_one(discover(), "defenses", name)
    assert isinstance(defense, Defense)
    plain = images.numpy()
    runs: dict[str, Callable[[], object]] = {
        "advbench": lambda: defense.apply(images, SampleRandom(0, "defense", range(len(images)))),
        "loop": lambda: torch.stack([torch.as_tensor(loop(image)) for image in plain]),
    }
    time_interleaved(runs, 1)  # libraries are imported at first use
    timed = time_interleaved(runs, repeats)
    medians = [timed[run].cpu_median if cpu else timed[run].median for run in runs]
    ours, theirs = (1000 * median / len(images) for median in medians)
    return ours, theirs


if __name__ == "__main__":
    main()
