"""Measures what counting queries costs: PGD on a network with and without the query log.

Run from the root of the checkout::

    python -m benchmarks.meter --model mnist-cnn --limit 250

Both run in turn in one process. The log counts queries, finds the first success of each sample and watches the
gradients, as it does in every run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tabulate import tabulate

from advbench.api import Attack, Goal, SampleRandom
from advbench.discovery.loading import discover
from advbench.evaluation.work.attacked.query_log import QueryLog, RecordingClassifier
from advbench.specs import resolve_one
from benchmarks.samples import Samples, load_samples
from benchmarks.timing import time_interleaved


def main() -> None:
    """Prints the medians of the times, and the ratio of the medians and of each pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mnist-cnn", metavar="SPEC", help="the network")
    parser.add_argument("--dataset", default="mnist", metavar="SPEC", help="the images")
    parser.add_argument("--attack", default="pgd", metavar="SPEC", help="the attack")
    parser.add_argument("--limit", type=int, default=250, help="number of images")
    parser.add_argument("--pairs", type=int, default=9, help="number of repetitions")
    parser.add_argument("--device", default="auto", help="where to compute")
    parser.add_argument("--data-dir", type=Path, help="folder with your copies of datasets")
    options = parser.parse_args()
    samples = load_samples(
        options.model, options.dataset, options.limit, seed=0, device=options.device, data_dir=options.data_dir
    )
    attack = resolve_one(discover(), "attacks", options.attack)
    assert isinstance(attack, Attack)
    runs = {
        "without": lambda: _craft(attack, samples.network, samples),
        "with the log": lambda: _craft(attack, _recorded(attack, samples), samples),
    }
    time_interleaved(runs, 1, samples.images.device)  # the first run allocates memory
    timed = time_interleaved(runs, options.pairs, samples.images.device)
    print(
        tabulate(
            [(name, f"{times.median:.3f}", f"{times.cpu_median:.3f}") for name, times in timed.items()],
            headers=("query log", "seconds", "CPU seconds"),
        )
    )
    without, with_log = timed.values()
    for name in ("seconds", "cpu_seconds"):
        pairs = sorted(two / one - 1 for one, two in zip(getattr(without, name), getattr(with_log, name), strict=True))
        print(f"overhead, {name.replace('_', ' ')}: median of {len(pairs)} pairs {100 * pairs[len(pairs) // 2]:+.2f} %")


def _recorded(attack: Attack, samples: Samples) -> RecordingClassifier:
    log = QueryLog(samples.images, Goal(samples.labels), attack.perturbation())
    return RecordingClassifier(samples.network, log, "the model", access=attack.access)


def _craft(attack: Attack, model: torch.nn.Module, samples: Samples) -> object:
    rng = SampleRandom(0, "attack", samples.ids, samples.images.device)
    return attack.craft(model, samples.images.clone(), Goal(samples.labels), rng, None)


if __name__ == "__main__":
    main()
