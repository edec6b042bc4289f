"""Whether the disk has room for what a run will store."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

from advbench.errors import StoreError
from advbench.evaluation.plan.cells import full
from advbench.evaluation.plan.tasks import CraftTask
from advbench.evaluation.run.schedule import Job

__all__ = ["check_disk_space", "room_needed"]

_OF_SAMPLE = 64
"""Bytes of what is stored of a sample beside its image, in a cell and in a chunk."""

_OF_ENTRY = 4096
"""Bytes of an entry of no samples: what its key is the digest of, and the rest of its last block on the disk."""


def room_needed(jobs: Iterable[Job]) -> int:
    """How many bytes jobs will store at most: an image takes four bytes a value, or one where it has whole steps."""
    jobs = list(jobs)
    datasets = {full(job.cell.dataset): job.cell.dataset for job in jobs if job.cell is not None}
    values = {spec: math.prod(dataset.image_shape) for spec, dataset in datasets.items()}
    of_samples = sum(
        job.samples * (_OF_SAMPLE + (4 * values[job.task.dataset] if isinstance(job.task, CraftTask) else 0))
        for job in jobs
    )
    return of_samples + _OF_ENTRY * len(jobs)


def check_disk_space(store: Path, jobs: Iterable[Job]) -> None:
    """Makes sure that a store has room for what jobs will store.

    Raises:
        StoreError: It has not; the message says how much is missing.
    """
    there = store
    while not there.exists():
        there = there.parent
    needed, free = room_needed(jobs), shutil.disk_usage(there).free
    if needed > free:
        raise StoreError(
            f"store {store} has {_in_words(free)} left on its disk, and this run stores up to {_in_words(needed)}; "
            "make room ('advbench cache gc' removes what no run needs), or choose another folder with --store DIR"
        )


def _in_words(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
