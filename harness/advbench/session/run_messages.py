"""The messages of a run on stderr: its size, what is left to do, how long it will take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from advbench.api.component import Component
from advbench.api.perturbation import NORM_SYMBOLS
from advbench.evaluation.plan.build import Plan
from advbench.evaluation.plan.cells import Axes, short
from advbench.evaluation.plan.certificates import Certification
from advbench.evaluation.plan.tasks import CertifyTask
from advbench.evaluation.plan.threats import NO_ATTACKER, TRANSFER
from advbench.evaluation.run.estimate import Estimate
from advbench.evaluation.run.schedule import Schedule
from advbench.specs import FLOAT32, full_spec, short_spec
from advbench.store import SCHEMA, Store

__all__ = [
    "certificate_notes",
    "duration",
    "forecast",
    "memory_notes",
    "nothing_to_do",
    "older_results",
    "plan_size",
    "precision_warning",
]


def plan_size(plan: Plan, schedule: Schedule) -> str:
    """How large a plan is and how much of it is in the store."""
    counts: dict[Component, set[int]] = {}
    for cell in plan.cells:
        if not cell.skipped:
            counts.setdefault(cell.dataset, set()).add(len(cell.ids))
    images = ", ".join(f"{_range(sizes, 'image')} of {short_spec(dataset)}" for dataset, sizes in counts.items())
    skipped = sum(bool(cell.skipped) for cell in plan.cells)
    failed = sum(bool(cell.failed) for cell in plan.cells)
    to_do = len(plan.cells) - skipped - failed - len(schedule.cached)
    states = f"{len(schedule.cached)} in the store, {to_do} to do" + (f", {skipped} skipped" if skipped else "")
    states += f", {failed} cannot be run" if failed else ""
    return f"{_product(plan)} = {_count(len(plan.cells), 'cell')} on {images}; {states}"


def nothing_to_do(plan: Plan, schedule: Schedule, store: Path) -> str:
    """Where the cells come from if none is left to compute. Some of them may be cells that cannot be run."""
    total = len(plan.cells)
    stored = sum(cell.key in schedule.cached for cell in plan.cells if cell.key)
    if stored == total:
        return f"all {total} cells come from the store {store}"
    skipped, failed = (sum(bool(getattr(cell, state)) for cell in plan.cells) for state in ("skipped", "failed"))
    states = ((stored, f"in the store {store}"), (failed, "cannot be run"), (skipped, "skipped"))
    return f"nothing to compute of {total} cells: " + ", ".join(f"{count} {what}" for count, what in states if count)


def older_results(store: Store) -> str:
    """The notice that stored results of an earlier version are not used; empty after the first run of this version."""
    latest = next(store.runs(), None)
    manifest = store.read_manifest(latest) if latest else None
    if manifest is None or manifest.get("schema") == SCHEMA:
        return ""
    return (
        f"the store {store.root} has results of an earlier version of advbench: they can be shown, but are not used "
        "again, since keys have changed; 'advbench cache ls' lists them"
    )


def forecast(estimate: Estimate, workers: int, device: str, threads: object) -> str:
    """How long a run will take.

    Args:
        estimate: The work of all jobs.
        workers: How many jobs run at the same time.
        device: Where they run.
        threads: CPU threads of each worker, shown for the CPU.
    """
    seconds = estimate.seconds / workers
    accuracy = "very roughly " if estimate.rough else "about " if seconds >= 1 else ""
    where = f"{threads} CPU thread{'' if threads == 1 else 's'}" if device == "cpu" else device
    each = f" in each of {workers} workers" if workers > 1 else ""
    return f"this will take {accuracy}{duration(seconds)} on {where}{each}"


def memory_notes(estimate: Estimate, plan: Plan, batch_size: int) -> list[str]:
    """How much memory models need for large images, and the batches that fit, if these are smaller than wanted."""
    names = {
        full_spec(model): short_spec(model) for cell in plan.cells for model in (cell.model, cell.surrogate) if model
    }
    notes = []
    for model, memory in estimate.memory.items():
        need = f"{names.get(model, model)} needs about {memory.image / 2**30:.2g} GiB of memory for an image"
        if memory.batch and memory.batch < batch_size:
            notes.append(f"{need}: batches have {_count(memory.batch, 'image')} instead of {batch_size:,}")
        else:
            notes.append(f"{need}, {memory.image * batch_size / 2**30:.2g} GiB for a batch of {batch_size:,}")
    return notes


def precision_warning(plan: Plan, precision: str) -> str:
    """What a precision other than float32 means for a plan."""
    line = f"the network is attacked in {precision}, and scored in {FLOAT32}"
    minimal = dict.fromkeys(short_spec(cell.attack) for cell in plan.cells if cell.key and cell.minimal)
    if not minimal:
        return line
    attacks = ", ".join(minimal)
    return f"{line}: minimal attacks ({attacks}) stop where the first is fooled, which may not fool the second"


def duration(seconds: float) -> str:
    """A duration for people: ``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _product(plan: Plan) -> str:
    """The number of cells as a product, or for several parts as a sum."""
    once = {cell.attack for cell in plan.cells if cell.threat == NO_ATTACKER}
    if len(plan.parts) == 1:
        (axes,) = plan.parts
        product = " × ".join(_count(count, word) for word, count in _lengths(axes).items())
        surrogates = f"{TRANSFER.name} with {len(axes.surrogates)} surrogates" * (len(axes.surrogates) > 1)
        corruptions = "corruptions under a single threat" * bool(once and len(axes.attackers) > 1)
        exceptions = ", ".join(filter(None, (surrogates, corruptions)))
        return f"{product}, {exceptions}," if exceptions else product
    sizes = [_size(axes, sum(attack in once for attack in axes.attacks)) for axes in plan.parts]
    repeated = sum(sizes) - len(plan.cells)
    less = f", less {repeated} that occur twice," if repeated else ""
    return f"{len(sizes)} parts of {' + '.join(map(str, sizes))}{less}"


def _size(axes: Axes, once: int) -> int:
    """The number of cells of a part, of whose attacks some are run under a single threat."""
    lengths = _lengths(axes)
    attacks = lengths.pop("attack")
    del lengths["threat"]
    return math.prod(lengths.values()) * ((attacks - once) * len(axes.attackers) + once)


def _lengths(axes: Axes) -> dict[str, int]:
    return {
        "dataset": len(axes.datasets),
        "model": len(axes.models),
        "attack": len(axes.attacks),
        "defense": len(axes.defenses),
        "threat": len(axes.threats),
    }


def _range(counts: set[int], word: str) -> str:
    """A number of things, or the smallest and the largest of several numbers, such as ``20 to 100 images``."""
    least = f"{min(counts):,} to " if len(counts) > 1 else ""
    return least + _count(max(counts), word)


def _count(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def certificate_notes(plan: Plan, schedule: Schedule) -> list[str]:
    """What certifies, how much of it is left to do, and what has no certificate or nothing to compare it with."""
    certified = plan.certifications
    if not certified:
        return []
    left = sum(isinstance(job.task, CertifyTask) for job in schedule.jobs.values())
    count = sum(len(one.pieces) for one in certified)
    notes = [f"certificates of {', '.join(_certified_names(certified))}: {left} of {count} pieces to do"]
    others = {one.defense for one in certified}
    without = dict.fromkeys(short(cell.defense) for cell in plan.cells if cell.key and cell.defense not in others)
    if without:
        notes.append(
            f"no certificates of {', '.join(without)}: the first part of a defense must give them, or the model itself"
        )
    for norm in dict.fromkeys(one.norm for one in certified):
        budgets = [cell.budget for cell in plan.cells if cell.key and cell.budget is not None]
        if not any(budget.norm == norm for budget in budgets):
            notes.append(
                f"certificates are in {NORM_SYMBOLS[norm]}, and no attack has an eps in this norm: certified and "
                "empirical accuracies on the board cannot be compared"
            )
    return notes


def _certified_names(certified: Sequence[Certification]) -> list[str]:
    return list(dict.fromkeys(short(one.model if one.defense.identity else one.defense) for one in certified))
