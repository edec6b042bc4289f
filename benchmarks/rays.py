"""Compares rays with ART's HopSkipJump at the same number of queries: the median L∞ distance of the adversarial images.

Run from the root of the checkout, in an environment with ART (``pip install adversarial-robustness-toolbox``)::

    python -m benchmarks.rays --model mnist-cnn --limit 50 --queries 10000

Each image has the same number of queries in both. An image that one of them does not fool has the distance 1. ART draws
from NumPy's global generator, which is seeded for each image.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from advbench.api import Goal, SampleRandom
from advbench_attacks.black_box.rays import RayS
from benchmarks.samples import Samples, load_samples


class SpentError(Exception):
    """There are no queries left."""


class Limited(torch.nn.Module):
    """A network that keeps the nearest misclassified one of so many queries about one image, and then raises."""

    def __init__(self, network: torch.nn.Module, queries: int) -> None:
        super().__init__()
        self.network, self.queries = network, queries
        self.eval()

    def begin(self, image: torch.Tensor, label: torch.Tensor) -> None:
        """Starts to count for an image, shape (1, channels, height, width), and its label, shape (1,)."""
        self.image, self.label, self.left, self.distance = image, label, self.queries, math.inf

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The network's logits; ART's images are float64."""
        images = images.to(torch.float32)
        logits: torch.Tensor = self.network(images)
        counted = images[: self.left]
        distances = (counted - self.image).abs().flatten(1).amax(dim=1)
        wrong = logits[: self.left].argmax(dim=1) != self.label
        if wrong.any():
            self.distance = min(self.distance, float(distances[wrong].min()))
        self.left -= len(counted)
        if not self.left:
            raise SpentError
        return logits


def main() -> None:
    """Prints the median and mean distance, how many images were fooled, and the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mnist-cnn", metavar="SPEC", help="the network")
    parser.add_argument("--dataset", default="mnist", metavar="SPEC", help="the images")
    parser.add_argument("--limit", type=int, default=50, help="number of images")
    parser.add_argument("--queries", type=int, nargs="+", default=[1000, 10_000], help="numbers of queries")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of images and of HopSkipJump")
    parser.add_argument("--device", default="cpu", help="where to compute")
    parser.add_argument("--data-dir", type=Path, help="folder with your copies of datasets")
    options = parser.parse_args()
    samples = load_samples(
        options.model, options.dataset, options.limit, seed=options.seed, device=options.device,
        data_dir=options.data_dir,
    )  # fmt: skip
    rows = []
    for queries in options.queries:
        for name, run in (("rays", _rays), ("ART HopSkipJump", _hop_skip_jump)):
            began = time.process_time()
            try:
                distances = run(samples, queries, options.seed)
            except ImportError as error:
                print(f"{name} is skipped: {error}")
                continue
            seconds = time.process_time() - began
            found = [distance for distance in distances if math.isfinite(distance)]
            bounded = [min(distance, 1.0) for distance in distances]
            row = (queries, name, statistics.median(bounded), statistics.mean(bounded), len(found), seconds)
            rows.append(row)
            print(*row, flush=True)
    headers = ("queries", "attack", "median L∞", "mean L∞", f"fooled of {len(samples.ids)}", "CPU seconds")
    print(tabulate(rows, headers=headers, floatfmt=("", "", ".4f", ".4f", "", ".0f")))


def _rays(samples: Samples, queries: int, seed: int) -> list[float]:
    """The distances of rays, which attacks all images at once."""
    attack, rng = RayS(queries=queries), SampleRandom(seed, "attack", samples.ids, samples.images.device)
    adversarial = attack.craft(samples.network, samples.images, Goal(samples.labels), rng, None)
    wrong = samples.network(adversarial).argmax(dim=1) != samples.labels
    distances = (adversarial - samples.images).abs().flatten(1).amax(dim=1)
    return torch.where(wrong, distances, math.inf).tolist()


def _hop_skip_jump(samples: Samples, queries: int, seed: int) -> list[float]:
    """The distances of ART's HopSkipJump, which attacks one image after another; its iterations end with its queries.

    Raises:
        ImportError: ART is not installed.
    """
    from art.attacks.evasion import HopSkipJump  # type: ignore[import-not-found,unused-ignore]
    from art.estimators.classification import PyTorchClassifier  # type: ignore[import-not-found,unused-ignore]

    network = Limited(samples.network, queries)
    with torch.no_grad():
        classes = samples.network(samples.images[:1]).shape[1]
    estimator = PyTorchClassifier(
        network, torch.nn.CrossEntropyLoss(), tuple(samples.images.shape[1:]), classes, clip_values=(0, 1),
        device_type="gpu" if samples.images.is_cuda else "cpu",
    )  # fmt: skip
    attack = HopSkipJump(estimator, norm=np.inf, max_iter=1000, verbose=False)
    distances = []
    for number, (image, label) in enumerate(zip(samples.images, samples.labels, strict=True)):
        np.random.seed(seed + number)
        network.begin(image[None], label[None])
        with contextlib.suppress(SpentError):
            attack.generate(image[None].cpu().numpy(), np.eye(classes)[label[None].cpu().numpy()])
        distances.append(network.distance)
    return distances


if __name__ == "__main__":
    main()
