"""Why the CIFAR-10 network misclassifies a VQ-VAE's reconstructions: what they lack, one thing at a time.

Run from the root of the checkout::

    python -m benchmarks.reconstructions --limit 1000

Compares the accuracy on the reconstructions with the accuracy on images that lack only detail (Gaussian blur, an ideal
low-pass filter), on images with white noise of the same energy, on reconstructions with the original colours and
contrast, and on mixtures of the low spatial frequencies of one and the high ones of the other.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

import platformdirs
import torch
from tabulate import tabulate
from torch.nn import functional

from advbench.api import DataSources, load_weights
from advbench.evaluation.plan.samples import pick_ids
from advbench_datasets.cifar10 import Cifar10
from advbench_defenses.vqvae import SHIPPED_FOLDER, VqVae
from advbench_defenses.vqvae_network import VqVaeNetwork
from advbench_models.cifar10_densenet import Cifar10DenseNet

BATCH_SIZE = 250
CUTOFFS = (4, 8, 12)
"""Spatial frequencies, in cycles per image, that separate low from high ones."""


def load_images(limit: int, data_dir: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns test images, float32, shape (limit, 3, 32, 32), and their labels."""
    dataset = Cifar10()
    return dataset.load(DataSources(data_dir)).take(pick_ids(dataset, limit, seed=0))


@torch.no_grad()
def in_batches(function: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Applies a function to batches of images."""
    return torch.cat([function(batch) for batch in torch.split(images, BATCH_SIZE)])


def psnr(images: torch.Tensor, originals: torch.Tensor) -> float:
    """Returns the peak signal-to-noise ratio in dB."""
    return float(-10 * torch.log10((images - originals).square().mean()))


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Returns images after a Gaussian filter with this standard deviation in pixels."""
    offsets = torch.arange(-8.0, 9.0)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    padded = functional.pad(images, (8, 8, 8, 8), mode="reflect")
    return functional.conv2d(functional.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def equally_blurred(images: torch.Tensor, target: float) -> tuple[torch.Tensor, float]:
    """Returns images blurred to a PSNR, and the standard deviation of the filter."""
    low, high = 0.3, 4.0
    for _ in range(20):
        sigma = (low + high) / 2
        low, high = (sigma, high) if psnr(blur(images, sigma), images) > target else (low, sigma)
    return blur(images, sigma), sigma


def mixed(low: torch.Tensor, high: torch.Tensor, cutoff: float) -> torch.Tensor:
    """Returns the frequencies of ``low`` below the cutoff, in cycles per image, and those of ``high`` from it on."""
    size = low.shape[-1]
    frequencies = torch.fft.fftfreq(size) * size
    below = (frequencies[:, None].square() + frequencies[None].square()).sqrt() < cutoff
    spectrum = torch.where(below, torch.fft.fft2(low), torch.fft.fft2(high))
    return torch.fft.ifft2(spectrum).real


def with_statistics(images: torch.Tensor, originals: torch.Tensor, *, contrast: bool) -> torch.Tensor:
    """Returns images with the originals' mean of each channel, and optionally its standard deviation."""
    axes = (2, 3)
    centred = images - images.mean(axes, keepdim=True)
    if contrast:
        centred = centred * originals.std(axes, keepdim=True) / images.std(axes, keepdim=True).clamp(min=1e-6)
    return centred + originals.mean(axes, keepdim=True)


def variants(originals: torch.Tensor, noise: float) -> dict[str, torch.Tensor]:
    """Returns the images to classify, by name."""
    defense = VqVae(noise=noise)
    network = VqVaeNetwork(3)
    network.load_state_dict(
        load_weights(SHIPPED_FOLDER / f"{defense.weights_name('cifar10')}.safetensors", "reinstall")
    )
    network.eval()
    reconstructed = in_batches(lambda batch: network.reconstruct(batch)[0], originals)
    blurred, sigma = equally_blurred(originals, psnr(reconstructed, originals))
    scale = (reconstructed - originals).square().mean().sqrt()
    white = torch.randn(originals.shape, generator=torch.Generator().manual_seed(0)) * scale
    made = {
        "original": originals,
        "reconstruction": reconstructed,
        "reconstruction, without the quantisation": in_batches(lambda b: network.decode(network.encode(b)), originals),
        f"original, Gaussian blur (sigma {sigma:.2f} pixels)": blurred,
        "original, white noise": originals + white,
        "reconstruction, mean colours of the original": with_statistics(reconstructed, originals, contrast=False),
        "reconstruction, mean colours and contrast of the original": with_statistics(
            reconstructed, originals, contrast=True
        ),
    }
    for cutoff in CUTOFFS:
        made |= {
            f"below {cutoff} cycles from the reconstruction, the rest original": mixed(
                reconstructed, originals, cutoff
            ),
            f"below {cutoff} cycles original, the rest from the reconstruction": mixed(
                originals, reconstructed, cutoff
            ),
            f"below {cutoff} cycles original, the rest removed": mixed(originals, torch.zeros_like(originals), cutoff),
        }
    return made


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconstructions", description=__doc__)
    parser.add_argument("--limit", type=int, default=1000, help="number of test images")
    parser.add_argument("--noise", type=float, default=0.0, help="the VQ-VAE's training noise")
    folder = os.environ.get("ADVBENCH_DATA_DIR") or platformdirs.user_cache_dir("advbench")
    parser.add_argument("--data-dir", type=Path, default=Path(folder), help="folder with CIFAR-10")
    arguments = parser.parse_args()
    originals, labels = load_images(arguments.limit, arguments.data_dir)
    classify = Cifar10DenseNet().load().eval()
    rows = []
    for name, images in variants(originals, arguments.noise).items():
        # Pixels outside [0, 1] are clipped: no file can store them.
        correct = in_batches(lambda batch: classify(batch).argmax(1), images.clamp(0, 1)) == labels
        quality = "" if images is originals else f"{psnr(images, originals):.1f}"
        rows.append([name, quality, f"{100 * float(correct.double().mean()):.1f}"])
    print(tabulate(rows, ["image", "PSNR in dB", "accuracy in %"], tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
