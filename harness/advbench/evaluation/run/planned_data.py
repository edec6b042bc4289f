"""The part of a run's manifest about its datasets: samples, class names, notes, digests."""

from __future__ import annotations

from typing import Any

from advbench.evaluation.plan.build import Plan
from advbench.evaluation.plan.cells import Cell, full
from advbench.evaluation.run.dataset_facts import class_names, dataset_notes

__all__ = ["facts_of_datasets", "samples_of"]


def facts_of_datasets(plan: Plan) -> dict[str, Any]:
    """Class names, notes and digests of the datasets, by their specs; names and notes only of those that have any."""
    datasets = {cell.specs()["dataset"]: cell.dataset for cell in _one_cell_per_dataset(plan)}
    all_names = {spec: class_names(dataset) for spec, dataset in datasets.items()}
    all_notes = {spec: dataset_notes(dataset) for spec, dataset in datasets.items()}
    names = {spec: names for spec, names in all_names.items() if names is not None}
    notes = {spec: notes for spec, notes in all_notes.items() if notes}
    return {
        **({"class_names": names} if names else {}),
        **({"dataset_notes": notes} if notes else {}),
        "data_digests": _digests(plan),
    }


def samples_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """The ids of each dataset's samples, and those of smaller sets by their number if parts have such."""
    sets: dict[str, dict[int, tuple[int, ...]]] = {}
    for cell in plan.cells:
        if not cell.skipped:
            sets.setdefault(full(cell.dataset), {})[len(cell.ids)] = cell.ids
    samples = {dataset: list(known[max(known)]) for dataset, known in sets.items()}
    subsets = {
        dataset: {str(number): list(ids) for number, ids in known.items() if number != max(known)}
        for dataset, known in sets.items()
        if len(known) > 1
    }
    return {"samples": samples, **({"subsets": subsets} if subsets else {})}


def _digests(plan: Plan) -> dict[str, str]:
    """The digest of each dataset's content, by its spec."""
    chunks = {cell.specs()["dataset"]: cell.chunks[0] for cell in plan.cells if cell.chunks}
    return {spec: chunk.key_inputs["dataset"]["digest"] for spec, chunk in chunks.items()}


def _one_cell_per_dataset(plan: Plan) -> list[Cell]:
    return list({cell.specs()["dataset"]: cell for cell in plan.cells if not cell.skipped}.values())
