"""Compares fitted patches with random and white ones of the same size, on images to which they were not fitted.

Run from the root of the checkout::

    python -m benchmarks.patches --data-dir data
    python -m benchmarks.patches --model cifar10-densenet --dataset cifar10 --areas 0.05 0.1
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from advbench.api import Crafted, FitData, Goal, SampleRandom
from advbench_attacks.patch.adversarial_patch import AdversarialPatch
from benchmarks.samples import Samples, load_samples
from benchmarks.tables import Table

HEADERS = ("goal", "area", "fitted patch", "random patch", "white patch", "CPU seconds of the fit")


def main() -> None:
    """Parses the command line, fits all patches and prints the table."""
    arguments = _parser().parse_args()
    samples = load_samples(
        arguments.model, arguments.dataset, arguments.limit + arguments.fit_samples,
        seed=arguments.seed, device=arguments.device, data_dir=arguments.data_dir,
    )  # fmt: skip
    note = (
        f"{arguments.model}, {arguments.limit} images of {arguments.dataset}, patches fitted to "
        f"{arguments.fit_samples} others. Shares of the correctly classified images that become misclassified, or "
        "classified as the target, with the patch at a random position and rotation."
    )
    rows = list(compare(samples, arguments.areas, arguments.goals, arguments.limit, arguments.seed))
    print(Table("Adversarial patches", note, HEADERS, rows).markdown())


def compare(
    samples: Samples, areas: Sequence[float], goals: Sequence[str], limit: int, seed: int
) -> Iterator[list[Any]]:
    """Fits a patch for each goal and area; yields one row of :data:`HEADERS` each.

    Args:
        samples: The network and all images; the first are attacked, and patches are fitted to the others.
        areas: Shares of the image.
        goals: ``untargeted``, or a class number.
        limit: How many images are attacked.
        seed: The seed of all random numbers.
    """
    for name in goals:
        kept = (
            torch.ones_like(samples.labels, dtype=torch.bool) if name == "untargeted" else samples.labels != int(name)
        )
        attacked, others = kept.nonzero().flatten().split([int(kept[:limit].sum()), int(kept[limit:].sum())])
        for area in areas:
            attack = AdversarialPatch(area=area, goal=name)
            began = time.process_time()
            fitted = dict(_fit(attack, samples, others, seed))
            seconds = time.process_time() - began
            random = torch.rand(fitted["patch"].shape, generator=torch.Generator().manual_seed(seed))
            patches = (fitted["patch"], random, torch.ones_like(random))
            rates = [_rate(attack, samples, attacked, {**fitted, "patch": patch}, seed) for patch in patches]
            yield [name, area, *(f"{100 * rate:.1f} %" for rate in rates), f"{seconds:.0f}"]


def _fit(attack: AdversarialPatch, samples: Samples, rows: torch.Tensor, seed: int) -> Any:
    images, ids = samples.images[rows], [samples.ids[row] for row in rows.tolist()]
    goal = _goal(attack, samples.labels[rows])
    data = FitData(lambda places: images[places], goal.labels, torch.tensor(ids))
    return attack.fit(samples.network, data, goal, SampleRandom(seed, "fit", ids, images.device))


def _rate(attack: AdversarialPatch, samples: Samples, rows: torch.Tensor, artefact: Any, seed: int) -> float:
    """The share of the correctly classified images that reach the goal."""
    images, goal = samples.images[rows], _goal(attack, samples.labels[rows])
    rng = SampleRandom(seed, "attack", [samples.ids[row] for row in rows.tolist()], images.device)
    crafted = attack.craft(samples.network, images, goal, rng, artefact)
    assert isinstance(crafted, Crafted)
    with torch.no_grad():
        clean, logits = (
            torch.cat([samples.network(part) for part in points.split(250)]) for points in (images, crafted.images)
        )
    correct = clean.argmax(dim=1) == goal.labels
    return float(goal.reached(logits)[correct].double().mean())


def _goal(attack: AdversarialPatch, labels: torch.Tensor) -> Goal:
    return Goal(labels, None if attack.goal == "untargeted" else torch.full_like(labels, int(attack.goal)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.patches", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--model", default="mnist-cnn", metavar="SPEC")
    parser.add_argument("--dataset", default="mnist", metavar="SPEC")
    parser.add_argument("--areas", nargs="+", type=float, default=[0.05, 0.1, 0.2, 0.3], metavar="SHARE")
    parser.add_argument("--goals", nargs="+", default=["untargeted", "3"], metavar="GOAL")
    parser.add_argument("--limit", type=int, default=1000, metavar="N", help="number of attacked images")
    parser.add_argument("--fit-samples", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    return parser


if __name__ == "__main__":
    main()
