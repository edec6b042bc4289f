"""Compares targeted attacks with those of Foolbox, torchattacks and ART on the same images and target classes.

Run from the root of the checkout::

    python -m benchmarks.targeted --data-dir data

Peers that are not installed are reported and skipped (``pip install torchattacks adversarial-robustness-toolbox``). All
implementations attack the same batch, one after another. Compare seconds only within one run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch

from advbench.api import Attack, Goal, SampleRandom
from advbench.discovery.loading import discover
from advbench.specs import resolve_one
from advbench_attacks.foolbox import engine as foolbox_engine
from benchmarks.samples import Samples, load_samples
from benchmarks.tables import Table

HEADERS = ("attack", "implementation", "targets reached", "median norm", "of those all reached", "CPU seconds")

Run: TypeAlias = Callable[[torch.nn.Module, torch.Tensor, Goal], torch.Tensor]
"""Takes a network, images and a goal; returns adversarial images."""


def main() -> None:
    """Parses the command line, runs all implementations and prints the table."""
    arguments = _parser().parse_args()
    samples = load_samples(
        arguments.model, arguments.dataset, arguments.limit,
        seed=arguments.seed, device=arguments.device, data_dir=arguments.data_dir,
    )  # fmt: skip
    goal = Goal(samples.labels, random_targets(samples, arguments.seed))
    note = (
        f"{arguments.model}, {len(samples.ids)} images of {arguments.dataset}, a random target class each. PGD and "
        f"APGD have eps {arguments.eps:g} in L∞, CW {arguments.search_steps} constants of {arguments.cw_steps} steps. "
        "Norms are those of the attack, L∞ or L2."
    )
    rows = list(compare(arguments, samples, goal))
    print(Table("Targeted attacks", note, HEADERS, rows).markdown())


def random_targets(samples: Samples, seed: int) -> torch.Tensor:
    """Returns a random class beside the label for each sample: int64, shape (batch,)."""
    with torch.no_grad():
        classes = samples.network(samples.images[:1]).shape[1]
    shifts = torch.randint(1, classes, (len(samples.ids),), generator=torch.Generator().manual_seed(seed))
    return (samples.labels + shifts.to(samples.labels)) % classes


def compare(arguments: argparse.Namespace, samples: Samples, goal: Goal) -> Iterator[list[Any]]:
    """Runs all implementations of one attack after another; yields one row of :data:`HEADERS` each."""
    runs: dict[str, dict[str, Run]] = {"pgd": {}, "cw": {}, "apgd": {}}
    for library in (_advbench, _foolbox, _torchattacks, _art):
        for (attack, name), run in _installed(library, arguments, samples).items():
            runs[attack][name] = run
    for attack, implementations in runs.items():
        order = 2.0 if attack == "cw" else float("inf")
        reached, norms, seconds = {}, {}, {}
        for name, run in implementations.items():
            start = time.process_time()
            points = run(samples.network, samples.images, goal).detach().clamp(0, 1)
            seconds[name] = time.process_time() - start
            with torch.no_grad():
                reached[name] = goal.reached(samples.network(points))
            norms[name] = (points - samples.images).flatten(1).norm(p=order, dim=1)
            if attack != "cw":
                reached[name] &= norms[name] <= arguments.eps + 1e-5
        by_all = torch.stack(list(reached.values())).all(dim=0)
        for name in implementations:
            found, common = norms[name][reached[name]], norms[name][by_all]
            yield [attack, name, int(reached[name].sum()), _median(found), _median(common), seconds[name]]


def _installed(
    library: Callable[[argparse.Namespace, Samples], Implementations], arguments: argparse.Namespace, samples: Samples
) -> Implementations:
    """Returns the attacks of a library; none, with a message, if it is not installed."""
    try:
        return library(arguments, samples)
    except ImportError as error:
        print(f"skipped: {library.__name__.strip('_')}: {error}", flush=True)
        return {}


Implementations: TypeAlias = "Mapping[tuple[str, str], Run]"
"""Runs by attack and name of the implementation."""


def _advbench(arguments: argparse.Namespace, samples: Samples) -> Implementations:
    registry = discover()

    def make_run(spec: str) -> Run:
        attack = resolve_one(registry, "attacks", spec)
        assert isinstance(attack, Attack)

        def run(network: torch.nn.Module, images: torch.Tensor, goal: Goal) -> torch.Tensor:
            crafted = attack.craft(network, images, goal, SampleRandom(arguments.seed, "benchmark", samples.ids))
            return crafted if isinstance(crafted, torch.Tensor) else crafted.images

        return run

    budget = f"eps={arguments.eps},goal=random"
    cw = f"search_steps={arguments.search_steps},steps={arguments.cw_steps},learning_rate=0.01,goal=random"
    return {
        ("pgd", "advbench"): make_run(f"pgd:{budget},step_size={arguments.step_size}"),
        ("pgd", "advbench, default steps"): make_run(f"pgd:{budget}"),
        ("cw", "advbench"): make_run(f"cw:{cw}"),
        ("apgd", "advbench"): make_run(f"apgd:{budget}"),
        ("apgd", "advbench apgd-t"): make_run(f"apgd-t:{budget}"),
    }


def _foolbox(arguments: argparse.Namespace, samples: Samples) -> Implementations:
    del samples
    foolbox = foolbox_engine.load()
    pgd = foolbox.attacks.LinfPGD(abs_stepsize=arguments.step_size, steps=40, random_start=True)
    cw = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=arguments.search_steps, steps=arguments.cw_steps, stepsize=0.01, initial_const=0.01,
        abort_early=False,
    )  # fmt: skip

    def make_run(attack: Any, eps: float | None) -> Run:
        def run(network: torch.nn.Module, images: torch.Tensor, goal: Goal) -> torch.Tensor:
            model = foolbox.PyTorchModel(network, bounds=(0, 1), device=images.device)
            points: torch.Tensor = attack(model, images, foolbox.TargetedMisclassification(goal.targets), epsilons=eps)[
                1
            ]
            return points

        return run

    return {("pgd", "Foolbox"): make_run(pgd, arguments.eps), ("cw", "Foolbox"): make_run(cw, None)}


def _torchattacks(arguments: argparse.Namespace, samples: Samples) -> Implementations:
    """Returns the attacks of torchattacks. Its CW tries one constant, its APGD cannot be targeted at one class."""
    del samples
    import torchattacks  # type: ignore[import-not-found,unused-ignore]

    def make_run(build: Callable[[torch.nn.Module], Any]) -> Run:
        def run(network: torch.nn.Module, images: torch.Tensor, goal: Goal) -> torch.Tensor:
            attack = build(network)
            attack.set_mode_targeted_by_label(quiet=True)
            points: torch.Tensor = attack(images, goal.targets)
            return points

        return run

    eps, step_size, steps = arguments.eps, arguments.step_size, arguments.search_steps * arguments.cw_steps
    return {
        ("pgd", "torchattacks"): make_run(lambda net: torchattacks.PGD(net, eps=eps, alpha=step_size, steps=40)),
        ("cw", "torchattacks, constant 10"): make_run(lambda net: torchattacks.CW(net, c=10, steps=steps, lr=0.01)),
    }


def _art(arguments: argparse.Namespace, samples: Samples) -> Implementations:
    del samples
    from art.attacks.evasion import (  # type: ignore[import-not-found,unused-ignore]
        AutoProjectedGradientDescent,
        CarliniL2Method,
        ProjectedGradientDescentPyTorch,
    )
    from art.estimators.classification import PyTorchClassifier  # type: ignore[import-not-found,unused-ignore]

    def make_run(kind: Any, **keywords: Any) -> Run:
        def run(network: torch.nn.Module, images: torch.Tensor, goal: Goal) -> torch.Tensor:
            assert goal.targets is not None
            with torch.no_grad():
                classes = network(images[:1]).shape[1]
            estimator = PyTorchClassifier(
                network, torch.nn.CrossEntropyLoss(), tuple(images.shape[1:]), classes, clip_values=(0, 1),
                device_type="gpu" if images.is_cuda else "cpu",
            )  # fmt: skip
            attack = kind(estimator, targeted=True, batch_size=len(images), verbose=False, **keywords)
            targets = torch.nn.functional.one_hot(goal.targets, classes).cpu().numpy()
            return torch.from_numpy(attack.generate(images.cpu().numpy(), targets)).to(images)

        return run

    eps = arguments.eps
    return {
        ("pgd", "ART"): make_run(
            ProjectedGradientDescentPyTorch, eps=eps, eps_step=arguments.step_size, max_iter=40, num_random_init=1
        ),
        ("cw", "ART"): make_run(
            CarliniL2Method, learning_rate=0.01, binary_search_steps=arguments.search_steps,
            max_iter=arguments.cw_steps, initial_const=0.01,
        ),
        ("apgd", "ART"): make_run(
            AutoProjectedGradientDescent, eps=eps, eps_step=2 * eps, max_iter=100, nb_random_init=1,
            loss_type="cross_entropy",
        ),
    }  # fmt: skip


def _median(values: torch.Tensor) -> float | None:
    return float(values.median()) if len(values) else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.targeted", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--limit", type=int, default=50, help="number of images (default 50)")
    parser.add_argument("--model", default="mnist-cnn", help="the model that is attacked")
    parser.add_argument("--dataset", default="mnist-5k", help="its images")
    parser.add_argument("--data-dir", type=Path, help="folder with datasets")
    parser.add_argument("--eps", type=float, default=0.2, help="budget of PGD and APGD in L∞")
    parser.add_argument("--step-size", type=float, default=0.01, help="step size of PGD, which takes 40 steps")
    parser.add_argument("--search-steps", type=int, default=6, help="number of constants of CW")
    parser.add_argument("--cw-steps", type=int, default=300, help="number of steps of CW per constant")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N")
    return parser


if __name__ == "__main__":
    main()
