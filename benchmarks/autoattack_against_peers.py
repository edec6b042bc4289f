"""Compares AutoAttack and its parts with adv-lib's and torchattacks': robust accuracy and seconds at equal settings.

Run from the root of the checkout::

    python -m benchmarks.autoattack_against_peers --model mnist-cnn --eps 0.1 --limit 1000

Peers that are not installed are reported and skipped (``pip install adv-lib torchattacks``). All implementations attack
the same batches on the same device, one after another. Compare seconds only within one run, and CPU seconds on a busy
machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import platformdirs
import torch
from tabulate import tabulate

from advbench.api import Dataset, DataSources, Model, SampleRandom
from advbench.discovery.loading import discover
from advbench.evaluation.plan.samples import pick_ids
from advbench.evaluation.work.workspace import pick_device
from advbench.specs import resolve_one
from advbench_attacks.gradient.apgd import AutoPgd
from advbench_attacks.gradient.autoattack import AutoAttack
from advbench_attacks.minimal.fab import TargetedFab

PARTS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "fab-t minimal", "square", "autoattack")
"""The attacks to compare; fab-t stops at a sample's first success within eps, its minimal form searches on."""

Run: TypeAlias = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor]
"""Takes a network, images, labels and the samples' random streams; returns adversarial images."""


@dataclass(frozen=True)
class Settings:
    """Settings of all implementations; see ``--help``."""

    eps: float
    norm: str
    steps: int
    targets: int
    queries: int
    seed: int


@dataclass(frozen=True)
class Samples:
    """A network and the labelled images to attack, with ids for the random streams."""

    network: torch.nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    ids: tuple[int, ...]


def advbench_attacks(settings: Settings) -> dict[str, Run]:
    """Returns the attacks of advbench."""
    attacks = _advbench(settings, early_stop=False)
    dlr = AutoPgd(settings.eps, settings.norm, "dlr", settings.steps)
    minimal = TargetedFab(settings.norm, settings.targets, settings.steps)
    return {**attacks, "apgd-dlr": dlr.run, "fab-t minimal": minimal.run}


def advbench_attacks_stopping(settings: Settings) -> dict[str, Run]:
    """Returns the attacks of advbench with early_stop, as in adv-lib, where it makes a difference."""
    attacks = _advbench(settings, early_stop=True)
    dlr = AutoPgd(settings.eps, settings.norm, "dlr", settings.steps, early_stop=True)
    return {"apgd-dlr": dlr.run, **{name: attacks[name] for name in ("apgd-ce", "apgd-t", "autoattack")}}


def _advbench(settings: Settings, *, early_stop: bool) -> dict[str, Run]:
    autoattack = AutoAttack(
        eps=settings.eps,
        norm=settings.norm,
        steps=settings.steps,
        targets=settings.targets,
        queries=settings.queries,
        early_stop=early_stop,
    )
    return {**autoattack.parts(), "autoattack": autoattack.run}


def adv_lib_attacks(settings: Settings) -> dict[str, Run]:
    """Returns the attacks of adv-lib, which has no Square and so no AutoAttack.

    Raises:
        ImportError: adv-lib is not installed.
    """
    from adv_lib.attacks import apgd, apgd_targeted, fab  # type: ignore[import-not-found,unused-ignore]

    order = {"linf": float("inf"), "l2": 2.0}[settings.norm]
    shared: dict[str, Any] = {"norm": order, "n_iter": settings.steps}
    budget = {"eps": settings.eps, **shared}

    def without_rng(attack: Callable[..., torch.Tensor], **keywords: Any) -> Run:
        return lambda network, images, labels, _: attack(network, images, labels, **keywords)

    return {
        "apgd-ce": without_rng(apgd, loss_function="ce", **budget),
        "apgd-dlr": without_rng(apgd, loss_function="dlr", **budget),
        "apgd-t": without_rng(apgd_targeted, num_targets=settings.targets, **budget),
        "fab-t minimal": without_rng(fab, targeted_restarts=True, restarts=settings.targets, **shared),
    }


def torchattacks_attacks(settings: Settings) -> dict[str, Run]:
    """Returns the attacks of torchattacks; AutoAttack consists of its parts, since torchattacks' own takes 10 steps.

    Raises:
        ImportError: torchattacks is not installed.
    """
    import torchattacks  # type: ignore[import-not-found,unused-ignore]

    shared = {"norm": {"linf": "Linf", "l2": "L2"}[settings.norm], "eps": settings.eps, "seed": settings.seed}
    step_options = {**shared, "steps": settings.steps}
    target_options = {**step_options, "n_classes": settings.targets + 1}
    makers: dict[str, Callable[[torch.nn.Module], Any]] = {
        "apgd-ce": lambda network: torchattacks.APGD(network, loss="ce", **step_options),
        "apgd-dlr": lambda network: torchattacks.APGD(network, loss="dlr", **step_options),
        "apgd-t": lambda network: torchattacks.APGDT(network, **target_options),
        "fab-t": lambda network: torchattacks.FAB(network, multi_targeted=True, **target_options),
        "square": lambda network: torchattacks.Square(network, n_queries=settings.queries, **shared),
    }
    order = ("apgd-ce", "apgd-t", "fab-t", "square")
    makers["autoattack"] = lambda network: torchattacks.MultiAttack([makers[part](network) for part in order])

    def without_rng(maker: Callable[[torch.nn.Module], Any]) -> Run:
        return lambda network, images, labels, _: maker(network)(images, labels)

    return {name: without_rng(maker) for name, maker in makers.items()}


IMPLEMENTATIONS: dict[str, Callable[[Settings], dict[str, Run]]] = {
    "advbench": advbench_attacks,
    "advbench early_stop": advbench_attacks_stopping,
    "adv-lib": adv_lib_attacks,
    "torchattacks": torchattacks_attacks,
}
"""The implementations to compare."""


def measure(run: Run, samples: Samples, settings: Settings, batch_size: int) -> tuple[float, float, float, float]:
    """Runs an attack on all samples.

    Returns:
        The robust accuracy in percent, where points beyond eps do not count; the median distance of misclassified
        points, within eps or not; the seconds of the attack; and its CPU seconds.
    """
    order = {"linf": float("inf"), "l2": 2.0}[settings.norm]
    robust, seconds, cpu_seconds, distances = 0, 0.0, 0.0, []
    for start in range(0, len(samples.ids), batch_size):
        batch = slice(start, start + batch_size)
        images, labels = samples.images[batch], samples.labels[batch]
        rng = SampleRandom(settings.seed, "attack", samples.ids[batch], images.device)
        start_time, cpu_start = _now(images.device), time.process_time()
        crafted = run(samples.network, images.clone(), labels.clone(), rng).detach()
        seconds += _now(images.device) - start_time
        cpu_seconds += time.process_time() - cpu_start
        with torch.no_grad():
            correct = samples.network(images).argmax(dim=1) == labels
            misclassified = samples.network(crafted).argmax(dim=1) != labels
        norms = torch.linalg.vector_norm((crafted - images).flatten(1), order, dim=1)
        robust += int((correct & ~(misclassified & (norms <= settings.eps * (1 + 1e-6) + 1e-6))).sum())
        distances.append(norms[correct & misclassified])
    all_distances = torch.cat(distances)
    median = float(all_distances.median()) if len(all_distances) else float("nan")
    return 100 * robust / len(samples.ids), median, seconds, cpu_seconds


def load(arguments: argparse.Namespace) -> Samples:
    """Loads the network and samples that the command line names.

    Raises:
        UsageError: There is no such model, dataset or device, or it cannot be loaded.
    """
    registry, device = discover(), torch.device(pick_device(arguments.device))
    dataset = resolve_one(registry, "datasets", arguments.dataset)
    model = resolve_one(registry, "models", arguments.model)
    assert isinstance(dataset, Dataset)
    assert isinstance(model, Model)
    ids = pick_ids(dataset, arguments.limit, arguments.seed)
    images, labels = dataset.load(DataSources(Path(platformdirs.user_cache_dir("advbench")))).take(ids)
    network = model.load().to(device).eval().requires_grad_(False)
    return Samples(network, images.to(device), labels.to(device), ids)


def compare(samples: Samples, settings: Settings, batch_size: int, parts: list[str]) -> Iterator[list[object]]:
    """Yields a row of the table after each attack."""
    attacks = {name: _available(name, settings) for name in IMPLEMENTATIONS}
    for part in parts:
        for name, runs in attacks.items():
            if part in runs:
                yield [part, name, *measure(runs[part], samples, settings, batch_size)]


def _available(name: str, settings: Settings) -> dict[str, Run]:
    try:
        return IMPLEMENTATIONS[name](settings)
    except ImportError as error:
        print(f"{name} cannot be imported and is left out: {error}", file=sys.stderr)
        return {}


def main() -> None:
    """Parses the command line, runs everything and prints the table."""
    arguments = _parser().parse_args()
    settings = Settings(
        arguments.eps, arguments.norm, arguments.steps, arguments.targets, arguments.queries, arguments.seed
    )
    samples = load(arguments)
    rows = []
    for row in compare(samples, settings, arguments.batch_size, arguments.attacks.split(",")):
        print(*row, file=sys.stderr)
        rows.append(row)
    print(f"{arguments.model} on {len(samples.ids)} images of {arguments.dataset}, batches of {arguments.batch_size}")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {samples.images.device}; {settings}")
    median = f"median {settings.norm} of successes"
    headers = ("attack", "implementation", "robust accuracy %", median, "seconds", "CPU seconds")
    print(tabulate(rows, headers=headers, tablefmt="github", floatfmt=("", "", ".2f", ".4f", ".1f", ".1f")))


def _now(device: torch.device) -> float:
    """Returns the time, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="mnist-cnn", help="a model's spec")
    parser.add_argument("--dataset", default="mnist", help="a dataset's spec")
    parser.add_argument("--eps", type=float, default=0.1, help="the budget, in the norm")
    parser.add_argument("--norm", choices=("linf", "l2"), default="linf")
    parser.add_argument("--limit", type=int, default=1000, help="how many images, drawn with the seed")
    parser.add_argument("--steps", type=int, default=100, help="steps a run, or a target class")
    parser.add_argument("--targets", type=int, default=9, help="target classes of apgd-t and fab-t")
    parser.add_argument("--queries", type=int, default=5000, help="queries of square")
    parser.add_argument("--attacks", default=",".join(PARTS), help=f"of {', '.join(PARTS)}, separated by commas")
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N")
    return parser


if __name__ == "__main__":
    main()
