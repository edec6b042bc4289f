"""Counts how often attacks wait for an accelerator, without one: on a device that is simulated on the CPU.

Run from the root of the checkout::

    python -m benchmarks.waits

An accelerator computes while the program prepares what comes next. Wherever the program needs a value, it waits until
all that was prepared is done. The attacks run on a small convolutional network and eight images, behind the classifier
that records queries in every run.
"""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch

from advbench.api import Attack, ClassifierWrapper, Crafted, Goal, SampleRandom, goal_of
from advbench.contracts.images import finite_checks_together
from advbench.discovery.loading import discover
from advbench.evaluation.work.attacked.query_log import QueryLog, RecordingClassifier
from advbench.specs import resolve_one
from benchmarks.simulated_device import DEVICE, SimulatedDevice, to_device, to_host
from benchmarks.tables import Table

__all__ = ["ATTACKS", "Counted", "count_waits", "images_and_labels", "main", "small_network"]

ATTACKS = (
    "fgsm:eps=0.1",
    "fgsm:search=minimal",
    "fgsm:search=foolbox2",
    "pgd:eps=0.1,steps=10",
    "pgd:eps=0.05,steps=10,early_stop=true",
    "pgd:eps=0.1,steps=5,norm=l2,restarts=2",
    "pgd:steps=5,search=minimal,search_steps=1,targets=1",
    "pgd:steps=2,search=foolbox2",
    "apgd:eps=0.05,steps=10",
    "apgd:eps=0.05,steps=10,early_stop=true",
    "apgd-t:eps=0.05,steps=5,targets=3",
    "deepfool",
    "deepfool:norm=linf",
    "deepfool:variant=foolbox2,batch=8",
    "cw:steps=20,search_steps=2",
    "cw:steps=10,search_steps=2,goal=next",
    "ddn:steps=20",
    "ddn:steps=20,goal=next",
    "fmn:steps=20",
    "fmn:steps=20,norm=l1",
    "fmn:steps=20,norm=l2,goal=next",
    "fab-t:steps=5,targets=3",
    "fab-t:steps=3,norm=l2,goal=next",
    "square:eps=0.05,queries=40",
    "square:eps=0.3,queries=40,norm=l2",
    "rays:queries=40",
    "graffiti:steps=10",
    "noise:queries=10",
    "autoattack:eps=0.05,steps=5,targets=3,queries=40",
    "rotate-shift:angles=3,shifts=3,max_shift=2",
    "worst-of:of=ddn:steps=20 | deepfool",
)
"""The native attacks that query the model in ``craft``, with few steps."""


class Counted(NamedTuple):
    """What was counted of one attack.

    Attributes:
        images: The attack's images, on the CPU.
        batches: How many images each call of the network had.
        waits: How often the program waited, by the operation.
        queries: What was recorded of the queries of each sample, by name, on the CPU.
        total_forwards: How many images were recorded in all.
    """

    images: torch.Tensor
    batches: list[int]
    waits: Counter[str]
    queries: dict[str, torch.Tensor]
    total_forwards: int


class _CountingCalls(ClassifierWrapper):
    def __init__(self, target: torch.nn.Module) -> None:
        super().__init__(target)
        self.batches = list[int]()  # shared with copies for rows

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        return self.target(images)  # type: ignore[no-any-return]


def count_waits(
    attack: Attack, network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, *,
    float64: bool = True, most: int | None = None,
) -> Counted:  # fmt: skip
    """Runs an attack as a run does and counts.

    Args:
        attack: The attack.
        network: A network on the CPU, or on the simulated device.
        images: Clean images on the CPU.
        labels: Their labels.
        float64: Whether the simulated device has float64.
        most: The limit of queries, which the attack must not reach; None for none.
    """
    simulated = any(parameter.device == DEVICE for parameter in network.parameters())
    counting = _CountingCalls(network)
    device = SimulatedDevice(float64=float64)
    with device if simulated else contextlib.nullcontext():
        if simulated:
            images, labels = to_device(images), to_device(labels)
        targets = None if goal_of(attack) == "untargeted" else (labels + 1) % 10
        goal = Goal(labels, targets)
        log = QueryLog(images, goal, attack.perturbation(), most=most)
        recorder = RecordingClassifier(counting, log, "the network", attack=attack.name, access=attack.access)
        rng = SampleRandom(0, "attack", range(len(images)), images.device)
        device.waits.clear()
        with finite_checks_together():
            crafted = attack.craft(recorder, images.clone(), goal, rng, None)
        waits = Counter(device.waits)
        meter = log.meter
        queries = {
            "forwards": meter.forwards,
            "backwards": meter.backwards,
            "first success": meter.first_success,
            **({} if meter.best_sizes is None else {"best sizes": meter.best_sizes}),
        }
    points = crafted.images if isinstance(crafted, Crafted) else crafted
    return Counted(
        to_host(points), counting.batches, waits, {k: to_host(v) for k, v in queries.items()}, meter.total_forwards
    )


def small_network() -> torch.nn.Module:
    """A frozen convolutional network with fixed random weights: images of 1×8×8 to 10 logits."""
    generator = torch.Generator().manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 10)
    )
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.empty_like(parameter).uniform_(-0.3, 0.3, generator=generator))
    return layers.eval().requires_grad_(False)


def images_and_labels(network: torch.nn.Module, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images, and the classes that the network gives them."""
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return images, network(images).argmax(dim=1)


def main(arguments_text: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attacks", nargs="+", default=ATTACKS, metavar="SPEC", help="the attacks")
    parser.add_argument("--limit", type=int, default=8, help="number of images")
    options = parser.parse_args(arguments_text)
    images, labels = images_and_labels(small_network(), options.limit)
    registry, rows = discover(), list[list[object]]()
    for spec in options.attacks:
        attack = resolve_one(registry, "attacks", spec)
        assert isinstance(attack, Attack)
        counted = count_waits(attack, to_device(small_network()), images, labels)
        calls, total = len(counted.batches), counted.waits.total()
        what = ", ".join(f"{count} {name}" for name, count in counted.waits.most_common())
        rows.append([f"`{spec}`", calls, total, total / max(1, calls), what])
    note = f"{options.limit} images of 1×8×8 and a convolutional network; a step is a call of the network."
    print(Table("Waits", note, ("attack", "steps", "waits", "waits per step", "for what"), rows).markdown())


if __name__ == "__main__":
    main()
