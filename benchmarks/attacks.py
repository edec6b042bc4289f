"""Each attack beside those of the peers: seconds, what they reach, and how much they ask of the network."""

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
from benchmarks.timing import Counting, Timed, take_turns

__all__ = ["CONTESTS", "HEADERS", "PEERS", "Contest", "contests", "hold"]

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
"""The columns; passes are images a sample."""


@dataclass(frozen=True)
class Contest:
    """One attack that several libraries have.

    Attributes:
        name: What the peers' modules call it.
        norm: In which its changes are measured.
        eps: Its budget, or None where it searches the smallest change.
        specs: The attacks of advbench, by the name of the row.
        limit: Most images, for a peer that would take hours, unless ``--no-cap`` is given; None takes all.
    """

    name: str
    norm: str
    eps: float | None
    specs: Mapping[str, str]
    limit: int | None = None


def contests(settings: Settings) -> tuple[Contest, ...]:
    """All contests with these settings."""
    eps, steps = settings.eps, settings.steps
    pgd = f"pgd:eps={eps},steps={steps},step_size={settings.step_size}"
    cw = f"cw:search_steps={settings.search_steps},steps={settings.cw_steps},learning_rate=0.01,initial_const=0.01"
    return (
        Contest("fgsm", "linf", eps, {"advbench": f"fgsm:eps={eps}"}),
        Contest("pgd", "linf", eps, {"advbench": pgd, "advbench early_stop": f"{pgd},early_stop=true"}),
        Contest("deepfool", "l2", None, {"advbench": f"deepfool:steps={settings.deepfool_steps}"}),
        Contest("cw", "l2", None, {"advbench": cw}, limit=100),
        Contest("ddn", "l2", None, {"advbench": f"ddn:steps={settings.ddn_steps}"}),
        Contest("fgsm minimal", "linf", None, {"advbench": "fgsm:search=minimal"}, limit=100),
        Contest(
            "pgd minimal",
            "linf",
            None,
            {"advbench": f"pgd:search=minimal,steps={steps},step_size=0.01,targets=3"},
            limit=20,
        ),
    )


CONTESTS = tuple(contest.name for contest in contests(Settings()))
"""The names of all contests."""


def hold(
    contest: Contest,
    samples: Samples,
    settings: Settings,
    *,
    peers: Sequence[str],
    repeats: int,
    batch_size: int,
    seed: int,
    capped: bool = True,
) -> Iterator[list[Any]]:
    """Lets advbench and these peers take their turns at a contest; a row of :data:`HEADERS` each.

    With ``capped`` a contest with a slow peer has at most its own number of images.
    """
    samples = samples if contest.limit is None or not capped else samples.first(contest.limit)
    runs = _implementations(contest, settings, samples, peers, seed)
    network = Counting(samples.network)
    network(samples.images[:batch_size].clone().requires_grad_()).sum().backward()  # nobody pays for the first pass
    timed = take_turns(
        {name: partial(_attack, run, network, samples, batch_size) for name, run in runs.items()},
        repeats,
        samples.images.device,
    )
    with torch.no_grad():
        right = samples.network(samples.images).argmax(dim=1) == samples.labels
        found = {name: _outcome(contest, samples, right, one) for name, one in timed.items()}
    everyone = torch.stack([fooled for fooled, _ in found.values()]).all(dim=0)
    others = [one.median for name, one in timed.items() if not name.startswith("advbench")]
    for name, one in timed.items():
        fooled, sizes = found[name]
        assert one.result is not None
        yield [
            contest.name, name, len(samples.ids), one.median, one.cpu_median,
            one.median / min(others) if others else None,
            one.median / timed["Foolbox"].median if "Foolbox" in timed else None,
            100 * float((right & ~fooled).float().mean()), int(fooled.sum()),
            _median(sizes[fooled]), _median(sizes[everyone]), one.result[1], one.result[2],
        ]  # fmt: skip


def _implementations(
    contest: Contest, settings: Settings, samples: Samples, peers: Sequence[str], seed: int
) -> dict[str, Run]:
    """Everyone's run of a contest, advbench's first; peers that are not installed are named and left out."""
    registry, runs = discover(), {}
    for name, spec in contest.specs.items():
        attack = resolve_one(registry, "attacks", spec)
        assert isinstance(attack, Attack)
        runs[name] = _ours(attack, samples, seed)
    for name in peers:
        try:
            run = importlib.import_module(PEERS[name]).attacks(settings).get(contest.name)
        except ImportError as error:
            _miss(name, str(error))
            continue
        if run is not None:
            runs[name] = run
    return runs


@functools.cache
def _miss(name: str, reason: str) -> None:
    """Says once that a peer is left out."""
    print(f"{name} cannot be imported and is left out: {reason}", file=sys.stderr)


def _ours(attack: Attack, samples: Samples, seed: int) -> Run:
    """An attack of advbench, whose random streams go by the samples' ids."""
    at = {image.data_ptr(): index for index, image in enumerate(samples.images)}

    def run(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        start = at[images.data_ptr()]
        ids = samples.ids[start : start + len(images)]
        return attack.run(network, images, labels, SampleRandom(seed, "attack", ids, images.device))

    return run


def _attack(run: Run, network: Counting, samples: Samples, batch_size: int) -> tuple[torch.Tensor, float, float]:
    """The adversarial images of all samples, and the passes forward and backward that a sample took."""
    network.reset()
    torch.manual_seed(0)
    batches = zip(torch.split(samples.images, batch_size), torch.split(samples.labels, batch_size), strict=True)
    crafted = torch.cat([run(network, images, labels).detach() for images, labels in batches])
    count = len(samples.ids)
    return crafted, network.forward_images / count, network.backward_images / count


def _outcome(
    contest: Contest, samples: Samples, right: torch.Tensor, timed: Timed[tuple[torch.Tensor, float, float]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which samples an attack turned wrong, within its budget if it has one, and how far it moved each."""
    assert timed.result is not None
    crafted = timed.result[0]
    sizes = torch.linalg.vector_norm((crafted - samples.images).flatten(1), ORDERS[contest.norm], dim=1)
    fooled = right & (samples.network(crafted).argmax(dim=1) != samples.labels)
    if contest.eps is not None:
        fooled &= sizes <= contest.eps * (1 + 1e-6) + 1e-6
    return fooled, sizes


def _median(sizes: torch.Tensor) -> float | None:
    return float(sizes.median()) if len(sizes) else None
