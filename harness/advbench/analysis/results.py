"""Results: one structure of plain data with everything that reports show.

It is the content of ``results.json``. Every leaderboard, in the terminal or in a file, is rendered from it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from advbench.analysis.certificates import Certificates, describe_certificates, find_contradictions
from advbench.analysis.intervals import wilson
from advbench.analysis.measures import worst_case_from_bits
from advbench.analysis.queries import up_to_limit
from advbench.analysis.samples import most_samples
from advbench.analysis.sanity import examine, unexamined
from advbench.analysis.set_kinds import CORRUPTION, set_kind
from advbench.analysis.summary import COORDINATES, Summary
from advbench.analysis.surrogates import surrogate_of, threat_name
from advbench.api.goal import UNTARGETED

__all__ = ["NOT_ADAPTIVE", "RESULTS_SCHEMA", "build_results", "rank"]

RESULTS_SCHEMA = 1
"""Version of the format of results.json."""

NOT_ADAPTIVE = "not adaptively attacked"
"""The mark of a defense that was not attacked adaptively."""

_MEASURES = (
    "clean_accuracy",
    "robust_accuracy",
    "robust_accuracy_ci95",
    "robust_accuracy_draws",
    "protocols",
    "attack_success_rate",
    "target_success_rate",
    "rejection",
    "median_linf",
    "median_l2",
)


_OMITTED = (
    "board",
    "cells",
    "certificates",
    "data_dir",
    "doubled",
    "entries",
    "folder",
    "repeats",
    "samples",
    "schema",
    "subsets",
)
"""Entries of a manifest that only this machine or the store needs, or that stand elsewhere in the results."""


def build_results(
    manifest: Mapping[str, Any],
    stored: Mapping[str, Summary],
    doubled: Mapping[int, Summary] | None = None,
    certificates: Sequence[Certificates] = (),
) -> dict[str, Any]:
    """Computes the results of a run.

    Args:
        manifest: The manifest of the run.
        stored: Summaries of its cells by key; cells without a summary count as not run.
        doubled: Summaries of the same cells with twice the steps of the attack, by index, if they were run.
        certificates: The certificates of its models and defenses.
    """
    stored = {
        described["key"]: summary
        for described in manifest["cells"]
        if (summary := stored.get(described["key"])) is not None
        and summary.coordinates == tuple(described.get("stored_as", described)[name] for name in COORDINATES)
    }
    cells = [_cell(described, stored.get(described["key"]), manifest) for described in manifest["cells"]]
    findings = examine(manifest["cells"], stored, doubled, manifest.get("class_names", {}))
    findings += find_contradictions(certificates, manifest["cells"])
    for finding in findings:
        for index in finding.cells:
            cells[index]["findings"].append(finding.criterion)
            cells[index]["warnings"].append(f"{finding.criterion}: {finding.message}; {finding.advice}")
    described = describe_certificates(certificates, manifest["cells"], manifest.get("radii", ()))
    run = {key: value for key, value in manifest.items() if key not in _OMITTED}
    return {
        "schema": RESULTS_SCHEMA,
        "run": {**run, "n": most_samples(manifest)},
        "cells": cells,
        "findings": [finding.as_dict() for finding in findings],
        "not_looked_for": unexamined(manifest["cells"], doubled=bool(doubled)),
        **({"certificates": described} if described else {}),
        "leaderboards": _leaderboards(manifest, stored),
    }


def _cell(described: Mapping[str, Any], summary: Summary | None, manifest: Mapping[str, Any]) -> dict[str, Any]:
    status, error = _state(described, summary)
    done = summary if summary is not None and status == "ok" else None
    return {
        **{key: described[key] for key in COORDINATES},
        "surrogate": surrogate_of(described, manifest),
        "short": described["short"],
        "attack_kind": described["attack_kind"],
        "budget": described["budget"],
        "norm": described.get("norm"),  # missing in manifests of earlier versions, as the next ones
        "perturbation": described.get("perturbation"),
        "goal": described.get("goal", UNTARGETED),
        "stochastic": described["stochastic"],
        "status": status,
        "error": error,
        "n": done.n if done else described["n"],
        **({key: done.measured[key] for key in _MEASURES} if done else dict.fromkeys(_MEASURES)),
        "median_size": _median_size(described, done) if done else None,
        "curve": done.curve if done else None,
        "broken_by": _broken_by(described, done, limited=manifest.get("max_queries") is not None) if done else None,
        "queries": up_to_limit(done.queries, manifest.get("max_queries")) if done else None,
        "seconds": done.seconds if done else None,
        "craft_seconds": done.craft_seconds if done else None,
        "warnings": _warnings(described, done.measured["attack_failures"], done.n) if done else [],
        "findings": [],
    }


def _median_size(described: Mapping[str, Any], summary: Summary) -> float | None:
    """The median of the perturbation set's main size, which may be L∞ or L2."""
    size: str | None = (described.get("perturbation") or {}).get("size")
    median: float | None = summary.measured.get(f"median_{size}", summary.measured["median_size"])
    return median


def _state(described: Mapping[str, Any], summary: Summary | None) -> tuple[str, str | None]:
    """A cell's status, and why it is not ``ok``."""
    if described["failed"]:
        return "error", described["failed"]
    if summary is None:
        return "skipped", described["skipped"] or "not run"
    return ("ok", None) if summary.ok else (summary.status, summary.error)


def _broken_by(described: Mapping[str, Any], summary: Summary, *, limited: bool) -> dict[str, int] | None:
    """Number of samples that each attack of an ensemble fooled.

    None for a single attack, and if a limit of queries ended the ensemble before it reported who fooled a sample.
    """
    names = described.get("components")
    if not names or summary.broken_by is None:
        return None
    attributed = sum(count for index, count in summary.broken_by.items() if index >= 0)
    if limited and attributed < summary.attacked_correct - summary.attacked_withstood.bit_count():
        return None
    return {name: summary.broken_by.get(index, 0) for index, name in enumerate(names)}


def _warnings(described: Mapping[str, Any], failures: int, n: int) -> list[str]:
    if described["attack_kind"] == "minimal" and failures:
        name = described["short"]["attack"]
        if described["threat"] == "adaptive" and described["defense"] != "none":
            name = f"{name} (adaptive, against {described['short']['defense']})"
        elif "surrogate" in described["short"]:
            name = f"{name} ({threat_name(described)})"
        scored = "the score uses other draws" if described["stochastic"] else "they count as robust"
        return [f"{name} found no adversarial image for {failures} of {n} samples; {scored}"]
    return []


def _leaderboards(manifest: Mapping[str, Any], stored: Mapping[str, Summary]) -> list[dict[str, Any]]:
    """One leaderboard for each dataset, model and set of attacks, with one row per defense, sorted by worst case.

    Attacks with perturbation sets of different kinds, such as Lp balls and rotations, are on different leaderboards, as
    no worst case covers both. In a suite with parts, the defenses of one dataset and model may be attacked with
    different attacks. Their worst cases cannot be compared, so they are on different leaderboards, too. A defense that
    has cells with different numbers of samples has a row for each number.
    """
    threats = list(manifest["threats"])
    rows: dict[tuple[str, str, str, str, int], list[Mapping[str, Any]]] = {}
    for cell in manifest["cells"]:
        if not cell["skipped"]:
            rows.setdefault((cell["dataset"], cell["model"], cell["defense"], set_kind(cell), cell["n"]), []).append(
                cell
            )
    groups: dict[tuple[Any, ...], list[list[Mapping[str, Any]]]] = {}
    for (dataset, model, _, kind, _), cells in rows.items():
        cells.sort(key=lambda cell: threats.index(cell["threat"]))
        columns = tuple((cell["threat"], cell["attack"], surrogate_of(cell, manifest)) for cell in cells)
        groups.setdefault((dataset, model, kind, columns), []).append(cells)
    boards = []
    for (dataset, model, kind, columns), lines in groups.items():
        boards.append(
            {
                "dataset": dataset,
                "model": model,
                "kind": kind,
                "threats": list(dict.fromkeys(threat for threat, *_ in columns)),
                "columns": [dict(zip(("threat", "attack", "surrogate"), column, strict=True)) for column in columns],
                "rows": sorted((_row(cells, stored) for cells in lines), key=rank),
            }
        )
    return boards


def _row(cells: Sequence[Mapping[str, Any]], stored: Mapping[str, Summary]) -> dict[str, Any]:
    """The row of a defense: its clean accuracy, and its worst case over all threats and for each threat.

    If results of some attacks are missing, ``complete`` is False and the worst case is an upper bound. Corruptions have
    no worst case but the mean over them.
    """
    threats: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        threats.setdefault(cell["threat"], []).append(cell)
    done = _done(cells, stored)
    first = {
        "defense": cells[0]["defense"],
        "n": cells[0]["n"],
        "clean_accuracy": done[0].measured["clean_accuracy"] if done else None,
    }
    if set_kind(cells[0]) == CORRUPTION:
        return {**first, "worst_case": None, "mean": _mean(cells, done), "marks": [], "worst_case_under": {}}
    return {
        **first,
        "worst_case": _worst(cells, stored),
        "marks": [] if cells[0].get("identity") or "adaptive" in threats else [NOT_ADAPTIVE],
        "worst_case_under": {threat: _worst(under, stored) for threat, under in threats.items()},
    }


def _done(cells: Sequence[Mapping[str, Any]], stored: Mapping[str, Summary]) -> list[Summary]:
    return [summary for cell in cells if (summary := stored.get(cell["key"])) and summary.ok]


def _worst(cells: Sequence[Mapping[str, Any]], stored: Mapping[str, Summary]) -> dict[str, Any] | None:
    done = _done(cells, stored)
    if not done:
        return None
    worst = worst_case_from_bits([summary.withstood for summary in done], done[0].n)
    return {**worst, "complete": len(done) == len(cells)}


def _mean(cells: Sequence[Mapping[str, Any]], done: Sequence[Summary]) -> dict[str, Any] | None:
    """The mean of the robust accuracies over all corruptions."""
    if not done:
        return None
    mean = statistics.fmean(summary.robust for summary in done)
    return {"accuracy": mean, "ci95": list(wilson(mean * done[0].n, done[0].n)), "complete": len(done) == len(cells)}


def rank(row: Mapping[str, Any]) -> tuple[bool, float, float]:
    """Sort key of rows: complete rows by worst case or mean, then by clean accuracy; then rows with missing results."""
    worst = row["worst_case"] or row.get("mean")
    if worst is None:
        return True, 0.0, 0.0
    return not worst["complete"], -worst["accuracy"], -row["clean_accuracy"]
