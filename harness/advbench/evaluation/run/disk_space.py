"""Checks that the disk has enough space for the results of a run."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

from advbench.errors import StoreError
from advbench.evaluation.plan.cells import full
from advbench.evaluation.plan.tasks import DefenseFitTask, FitTask
from advbench.evaluation.run.schedule import Job
from advbench.option_names import option

__all__ = ["bytes_needed", "check_disk_space"]

_BYTES_PER_SAMPLE = 64
"""Bytes stored for a sample besides its image, in a cell and in a chunk."""

_BYTES_PER_ENTRY = 4096
"""Bytes of an entry without samples: its key inputs, and the rest of its last block on the disk."""


def bytes_needed(jobs: Iterable[Job]) -> int:
    """How many bytes jobs will store at most: four bytes a value, although images with 8-bit values take one."""
    jobs = list(jobs)
    datasets = {full(job.cell.dataset): job.cell.dataset for job in jobs if job.cell is not None}
    values = {spec: math.prod(dataset.image_shape) for spec, dataset in datasets.items()}
    total = _BYTES_PER_ENTRY * len(jobs)
    for job in jobs:
        specs = job.task.components
        if isinstance(job.task, FitTask | DefenseFitTask):  # an artefact is rarely larger than an image
            continue
        image = 4 * values[specs["dataset"]] if "attack" in specs else 0
        total += job.samples * (_BYTES_PER_SAMPLE + image)
    return total


def check_disk_space(store: Path, jobs: Iterable[Job]) -> None:
    """Checks that the disk of a store has enough free space for what jobs will store.

    Raises:
        StoreError: It has not; the message gives the free and the needed space.
    """
    folder = store
    while not folder.exists():
        folder = folder.parent
    needed, free = bytes_needed(jobs), shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"store {store} has {_format_size(free)} of free disk space, and this run stores up to "
            f"{_format_size(needed)}; "
            "free some space ('advbench cache gc' removes what no run needs), or choose another folder with "
            f"{option('store', 'DIR')}"
        )


def _format_size(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
