"""Compares attacks with those of the peers: time, success and passes through the network."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from advbench.api import Attack, SampleRandom
from advbench.discovery.loading import discover
from advbench.specs import resolve_one
from benchmarks.samples import Samples
from benchmarks.settings import Run, Settings
from benchmarks.timing import CountingNetwork, Timings, time_interleaved

__all__ = ["COMPARISONS", "HEADERS", "PEERS", "Comparison", "comparisons", "run_comparison"]

PEERS = {
    "Foolbox": "benchmarks.peers.foolbox_peer",
    "torchattacks": "benchmarks.peers.torchattacks_peer",
    "ART": "benchmarks.peers.art_peer",
    "adv-lib": "benchmarks.peers.adv_lib_peer",
}
ORDERS = {"linf": float("inf"), "l2": 2.0}

HEADERS = (
    "attack", "implementation", "images", "seconds", "CPU seconds", "to the fastest peer", "to Foolbox",
    "robust accuracy %", "fooled", "median norm", "of those all fooled", "passes forward", "backward",
)  # fmt: skip
"""The columns; passes are images per sample."""


@dataclass(frozen=True)
class Comparison:
    """One attack that several libraries implement.

    Attributes:
        name: Its name in the peers' modules.
        norm: The norm that measures perturbations.
        eps: Its budget; None for a minimal attack.
        specs: The attacks of advbench, by the name of the row.
        limit: Maximum number of images, for peers that would take hours, unless ``--no-cap`` is given; None for all.
    """

    name: str
    norm: str
    eps: float | None
    specs: Mapping[str, str]
    limit: int | None = None


_ROTATE_SHIFT = "rotate-shift:max_angle=30,angles=11,max_shift=3,shifts=5"
"""The grid of the peers: 11 angles, and 5 shifts in each direction."""


def comparisons(settings: Settings) -> tuple[Comparison, ...]:
    """Returns all comparisons with these settings."""
    eps, steps = settings.eps, settings.steps
    pgd = f"pgd:eps={eps},steps={steps},step_size={settings.step_size}"
    cw = f"cw:search_steps={settings.search_steps},steps={settings.cw_steps},learning_rate=0.01,initial_const=0.01"
    return (
        Comparison("fgsm", "linf", eps, {"advbench": f"fgsm:eps={eps}"}),
        Comparison("pgd", "linf", eps, {"advbench": pgd, "advbench early_stop": f"{pgd},early_stop=true"}),
        Comparison("deepfool", "l2", None, {"advbench": f"deepfool:steps={settings.deepfool_steps}"}),
        Comparison("cw", "l2", None, {"advbench": cw}, limit=100),
        Comparison("ddn", "l2", None, {"advbench": f"ddn:steps={settings.ddn_steps}"}),
        Comparison("fmn", "l2", None, {"advbench": f"fmn:norm=l2,steps={settings.ddn_steps}"}),
        Comparison("apgd", "linf", eps, {"advbench": f"apgd:eps={eps},steps={steps}"}),
        Comparison("square", "linf", eps, {"advbench": f"square:eps={eps},queries={settings.queries}"}),
        Comparison(
            "rotate-shift",
            "linf",
            None,
            {"advbench": _ROTATE_SHIFT, "advbench early_stop": f"{_ROTATE_SHIFT},early_stop=true"},
        ),
        Comparison("fgsm minimal", "linf", None, {"advbench": "fgsm:search=minimal"}, limit=100),
        Comparison(
            "pgd minimal",
            "linf",
            None,
            {"advbench": f"pgd:search=minimal,steps={steps},step_size=0.01,targets=3"},
            limit=20,
        ),
    )


COMPARISONS = tuple(comparison.name for comparison in comparisons(Settings()))
"""The names of all comparisons."""


def run_comparison(
    comparison: Comparison,
    samples: Samples,
    settings: Settings,
    *,
    peers: Sequence[str],
    repeats: int,
    batch_size: int,
    seed: int,
    capped: bool = True,
) -> Iterator[list[Any]]:
    """Times advbench and these peers in turn on one attack; yields one row of :data:`HEADERS` each.

    With ``capped``, a comparison with a slow peer has at most its own number of images.
    """
    samples = samples if comparison.limit is None or not capped else samples.first(comparison.limit)
    runs = _implementations(comparison, settings, samples, peers, seed)
    network = CountingNetwork(samples.network)
    network(samples.images[:batch_size].clone().requires_grad_()).sum().backward()  # warms up the network
    timed = time_interleaved(
        {name: partial(_attack, run, network, samples, batch_size) for name, run in runs.items()},
        repeats,
        samples.images.device,
    )
    with torch.no_grad():
        correct = samples.network(samples.images).argmax(dim=1) == samples.labels
        outcomes = {name: _outcome(comparison, samples, correct, timings) for name, timings in timed.items()}
    all_fooled = torch.stack([fooled for fooled, _ in outcomes.values()]).all(dim=0)
    peer_medians = [timings.median for name, timings in timed.items() if not name.startswith("advbench")]
    for name, timings in timed.items():
        fooled, norms = outcomes[name]
        assert timings.result is not None
        yield [
            comparison.name, name, len(samples.ids), timings.median, timings.cpu_median,
            timings.median / min(peer_medians) if peer_medians else None,
            timings.median / timed["Foolbox"].median if "Foolbox" in timed else None,
            100 * float((correct & ~fooled).float().mean()), int(fooled.sum()),
            _median(norms[fooled]), _median(norms[all_fooled]), timings.result[1], timings.result[2],
        ]  # fmt: skip


def _implementations(
    comparison: Comparison, settings: Settings, samples: Samples, peers: Sequence[str], seed: int
) -> dict[str, Run]:
    """Returns all implementations of an attack, advbench's first; reports and skips peers that are not installed."""
    registry, runs = discover(), {}
    for name, spec in comparison.specs.items():
        attack = resolve_one(registry, "attacks", spec)
        assert isinstance(attack, Attack)
        runs[name] = _advbench_run(attack, samples, seed)
    for name in peers:
        try:
            run = importlib.import_module(PEERS[name]).attacks(settings).get(comparison.name)
        except ImportError as error:
            _report_missing_peer(name, str(error))
            continue
        if run is not None:
            runs[name] = run
    return runs


@functools.cache
def _report_missing_peer(name: str, reason: str) -> None:
    """Reports a skipped peer, once."""
    print(f"{name} cannot be imported and is left out: {reason}", file=sys.stderr)


def _advbench_run(attack: Attack, samples: Samples, seed: int) -> Run:
    """Adapts an attack of advbench; its random streams depend on the samples' ids."""
    offsets = {image.data_ptr(): index for index, image in enumerate(samples.images)}

    def run(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        start = offsets[images.data_ptr()]
        ids = samples.ids[start : start + len(images)]
        return attack.run(network, images, labels, SampleRandom(seed, "attack", ids, images.device))

    return run


def _attack(run: Run, network: CountingNetwork, samples: Samples, batch_size: int) -> tuple[torch.Tensor, float, float]:
    """Returns the adversarial images of all samples, and the forward and backward passes per sample."""
    network.reset()
    torch.manual_seed(0)
    batches = zip(torch.split(samples.images, batch_size), torch.split(samples.labels, batch_size), strict=True)
    crafted = torch.cat([run(network, images, labels).detach() for images, labels in batches])
    count = len(samples.ids)
    return crafted, network.forward_images / count, network.backward_images / count


def _outcome(
    comparison: Comparison, samples: Samples, correct: torch.Tensor, timed: Timings[tuple[torch.Tensor, float, float]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns which samples an attack broke, within its budget if it has one, and all perturbations' norms."""
    assert timed.result is not None
    crafted = timed.result[0]
    norms = torch.linalg.vector_norm((crafted - samples.images).flatten(1), ORDERS[comparison.norm], dim=1)
    fooled = correct & (samples.network(crafted).argmax(dim=1) != samples.labels)
    if comparison.eps is not None:
        fooled &= norms <= comparison.eps * (1 + 1e-6) + 1e-6
    return fooled, norms


def _median(norms: torch.Tensor) -> float | None:
    return float(norms.median()) if len(norms) else None
