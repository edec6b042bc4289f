"""Results: one plain structure that holds all that any report shows.

It is what ``results.json`` contains, and every leaderboard, in the terminal or in a file, is rendered from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advbench.analysis.measures import accuracy_at, measure_cell, worst_case
from advbench.analysis.sanity import examine

__all__ = ["NOT_ADAPTIVE", "RESULTS_SCHEMA", "build_results", "rank"]

RESULTS_SCHEMA = 1
"""Version of the form of results.json."""

NOT_ADAPTIVE = "not adaptively attacked"
"""The mark of a defense that no attacker who knows it has tried."""

_COORDINATES = ("dataset", "model", "attack", "threat", "defense")
_MEASURES = (
    "clean_accuracy",
    "robust_accuracy",
    "robust_accuracy_ci95",
    "robust_accuracy_draws",
    "attack_success_rate",
    "median_linf",
    "median_l2",
)


def build_results(
    manifest: Mapping[str, Any],
    records: Mapping[str, Mapping[str, Any]],
    doubled: Mapping[int, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Computes results from what is stored.

    Args:
        manifest: A run's manifest.
        records: Its cells' records by key; cells without one count as not run.
        doubled: The records of the same cells with twice the steps of the attack, by position, where they were run.
    """
    records = {
        described["key"]: record
        for described in manifest["cells"]
        if (record := records.get(described["key"])) is not None
        and all(record[coordinate] == described[coordinate] for coordinate in _COORDINATES)
    }
    cells = [_cell(described, records.get(described["key"])) for described in manifest["cells"]]
    findings = examine(manifest["cells"], records, doubled)
    for finding in findings:
        for place in finding.cells:
            cells[place]["findings"].append(finding.criterion)
            cells[place]["warnings"].append(f"{finding.criterion}: {finding.message}; {finding.advice}")
    run = {key: value for key, value in manifest.items() if key not in ("cells", "schema", "samples", "doubled")}
    return {
        "schema": RESULTS_SCHEMA,
        "run": {**run, "n": {dataset: len(ids) for dataset, ids in manifest["samples"].items()}},
        "cells": cells,
        "findings": [finding.as_dict() for finding in findings],
        "leaderboards": _leaderboards(manifest["cells"], records, list(manifest["threats"])),
    }


def _cell(described: Mapping[str, Any], record: Mapping[str, Any] | None) -> dict[str, Any]:
    cell: dict[str, Any] = {
        **{key: described[key] for key in _COORDINATES},
        "short": described["short"],
        "attack_kind": described["attack_kind"],
        "budget": described["budget"],
        "norm": described.get("norm"),  # manifests of earlier versions do not say
        "status": "skipped",
        "error": described["skipped"] or "not run",
        "n": described["n"],
        **dict.fromkeys(_MEASURES),
        "curve": None,
        "broken_by": None,
        "seconds": None,
        "craft_seconds": None,
        "warnings": [],
        "findings": [],
    }
    if described["failed"]:
        return {**cell, "status": "error", "error": described["failed"]}
    if record is None:
        return cell
    if record["status"] != "ok":
        return {**cell, "status": "error", "error": record["error"]}
    measured = measure_cell(record)
    return {
        **cell,
        "status": "ok",
        "error": None,
        "n": record["n"],
        **{key: measured[key] for key in _MEASURES},
        "seconds": record["seconds"],
        "craft_seconds": record["craft_seconds"],
        "curve": _curve(described, record),
        "broken_by": _broken_by(described, record),
        "warnings": _warnings(described, measured["attack_failures"], record["n"]),
    }


def _broken_by(described: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, int] | None:
    """How many samples each component of the attack fooled, where it has several."""
    names = described.get("components")
    if not names or "component" not in record:
        return None
    return {name: record["component"].count(place) for place, name in enumerate(names)}


def _curve(described: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Robust accuracy of the attacked classifier at every eps; of a minimal attack in a norm that is measured."""
    norm = described.get("norm")
    return accuracy_at(record, norm) if described["attack_kind"] == "minimal" and norm in ("linf", "l2") else None


def _warnings(described: Mapping[str, Any], failures: int, n: int) -> list[str]:
    if described["attack_kind"] == "minimal" and failures:
        name = described["short"]["attack"]
        return [f"{name} found no adversarial image for {failures} of {n} samples; they count as withstood"]
    return []


def _leaderboards(
    described: Sequence[Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]], threats: Sequence[str]
) -> list[dict[str, Any]]:
    """One a dataset, model and set of attacks under their threats, with a row a defense, the best worst case first.

    Only in a suite with parts do defenses of one dataset and model meet different attacks; their worst cases are
    over different things and do not stand on one board.
    """
    rows: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for cell in described:
        if not cell["skipped"]:
            rows.setdefault((cell["dataset"], cell["model"], cell["defense"]), []).append(cell)
    groups: dict[tuple[Any, ...], list[list[Mapping[str, Any]]]] = {}
    for (dataset, model, _), cells in rows.items():
        cells.sort(key=lambda cell: threats.index(cell["threat"]))
        columns = tuple((cell["threat"], cell["attack"]) for cell in cells)
        groups.setdefault((dataset, model, columns), []).append(cells)
    boards = []
    for (dataset, model, columns), lines in groups.items():
        boards.append(
            {
                "dataset": dataset,
                "model": model,
                "threats": list(dict.fromkeys(threat for threat, _ in columns)),
                "columns": [{"threat": threat, "attack": attack} for threat, attack in columns],
                "rows": sorted((_row(cells, records) for cells in lines), key=rank),
            }
        )
    return boards


def _row(cells: Sequence[Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A defense's row: its clean accuracy and its worst case, over all threats and under each.

    The worst case over fewer attacks than the board has is an upper bound, and says so by ``complete``.
    """
    threats: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        threats.setdefault(cell["threat"], []).append(cell)
    done = _done(cells, records)
    return {
        "defense": cells[0]["defense"],
        "clean_accuracy": measure_cell(done[0])["clean_accuracy"] if done else None,
        "worst_case": _worst(cells, records),
        "marks": [] if cells[0].get("identity") or "adaptive" in threats else [NOT_ADAPTIVE],
        "worst_case_under": {threat: _worst(some, records) for threat, some in threats.items()},
    }


def _done(cells: Sequence[Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [record for cell in cells if (record := records.get(cell["key"])) and record["status"] == "ok"]


def _worst(cells: Sequence[Mapping[str, Any]], records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    done = _done(cells, records)
    return {**worst_case(done), "complete": len(done) == len(cells)} if done else None


def rank(row: Mapping[str, Any]) -> tuple[bool, float, float]:
    """Complete rows by worst case, then by clean accuracy; rows with failed or missing attacks after them."""
    worst = row["worst_case"]
    if worst is None:
        return True, 0.0, 0.0
    return not worst["complete"], -worst["accuracy"], -row["clean_accuracy"]
