"""Results as JSON and as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

from advbench.api.reporter import Reporter
from advbench.printable import json_text, printable

__all__ = ["Csv", "Json", "rows_of"]

_COLUMNS = (
    "dataset",
    "model",
    "attack",
    "attack_kind",
    "threat",
    "defense",
    "status",
    "error",
    "n",
    "clean_accuracy",
    "robust_accuracy",
    "robust_accuracy_ci95_low",
    "robust_accuracy_ci95_high",
    "attack_success_rate",
    "median_linf",
    "median_l2",
    "seconds",
    "craft_seconds",
    "warnings",
    "norm",
    "eps",
    "stochastic",
    "seeds",
    "clean_accuracy_std",
    "robust_accuracy_std",
    "run_name",
    "goal",
    "target_success_rate",
    "perturbation_kind",
    "perturbation",
    "median_size",
    "forwards",
    "backwards",
    "median_forwards",
    "median_queries_to_success",
    "rejection_clean_rate",
    "rejection_adversarial_rate",
    "rejection_auroc",
    "accuracy_rejected_wrong",
    "surrogate",
    "certified_radius",
    "certified_accuracy",
    "certified_accuracy_ci95_low",
    "certified_accuracy_ci95_high",
    "certified_accuracy_std",
    "certified_abstained",
    "certified_median_radius",
)

_ACCURACIES = ("clean_accuracy", "robust_accuracy")

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""The beginning of a text that a spreadsheet would compute; the last four are the fullwidth forms."""


@dataclasses.dataclass(frozen=True)
class Json(Reporter):
    """All results: provenance, cells and leaderboards."""

    name = "json"
    suffix = ".json"

    def render(self, results: Mapping[str, Any]) -> str:
        """Renders the complete structure, with one line for each item of its lists and objects."""
        # Full indentation would use the slow encoder of json, which takes seconds for ten thousand cells.
        # The details are for pages, and contain pictures.
        shown = {key: value for key, value in results.items() if key != "details"}
        members = ",\n".join(f"  {json_text(key)}: {_lines(value)}" for key, value in shown.items())
        return f"{{\n{members}\n}}\n"


def _lines(value: Any) -> str:
    if isinstance(value, Mapping) and value:
        return "{\n" + ",\n".join(f"    {json_text(key)}: {json_text(item)}" for key, item in value.items()) + "\n  }"
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"    {json_text(item)}" for item in value) + "\n  ]"
    return json_text(value)


@dataclasses.dataclass(frozen=True)
class Csv(Reporter):
    """Cells in long format, one row each; then certified accuracies, one row for each defended model and radius.

    A text that a spreadsheet would take for a formula begins with an apostrophe, as OWASP recommends (CSV injection).
    """

    name = "csv"
    suffix = ".csv"

    def render(self, results: Mapping[str, Any]) -> str:
        """Renders the cells and the certified accuracies; missing values are empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: _shown(value) for key, value in row.items()} for row in (*rows_of(results), *_certified(results))
        )
        return text.getvalue()


def _shown(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return ("'" if _FORMULA.match(value) else "") + printable(value)


def rows_of(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The cells in long format, one row each; missing values are None."""
    rows = []
    for cell in results["cells"]:
        low, high = cell["robust_accuracy_ci95"] or (None, None)
        queries = cell.get("queries") or {}
        row = {
            **cell,
            "robust_accuracy_ci95_low": low,
            "robust_accuracy_ci95_high": high,
            "warnings": "; ".join(cell["warnings"]),
            "norm": cell.get("norm"),  # missing in results of earlier versions
            "eps": cell["budget"]["eps"] if cell["budget"] else None,
            "stochastic": cell.get("stochastic"),
            **_perturbation(cell),
            "seeds": " ".join(results["run"].get("seeds", ())) or None,
            "run_name": results["run"].get("name"),
            "goal": cell.get("goal"),
            "surrogate": cell.get("surrogate"),
            "target_success_rate": cell.get("target_success_rate"),
            **{name: queries.get(name) for name in ("forwards", "backwards", "median_forwards")},
            "median_queries_to_success": queries.get("median_to_success"),
            **_rejection(cell),
            **{f"{name}_std": (cell.get(f"{name}_seeds") or {}).get("std") for name in _ACCURACIES},
        }
        rows.append({key: row.get(key) for key in _COLUMNS})
    return rows


def _certified(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The certified accuracies, one row for each defended model and radius, that at radius 0 first.

    Their ``attack_kind`` is ``certificate``, and they have no attack, threat and robust accuracy.
    """
    for entry in results.get("certificates", ()):
        shared = {
            **{key: entry[key] for key in ("dataset", "model", "defense", "status", "error", "n", "norm", "seconds")},
            "attack_kind": "certificate",
            "seeds": " ".join(results["run"].get("seeds", ())) or None,
            "run_name": results["run"].get("name"),
            "certified_abstained": entry["abstained"],
            "certified_median_radius": entry["median_radius"],
        }
        for at in (entry["accuracy"], *entry["at"]) if entry["accuracy"] else (None,):
            yield {**dict.fromkeys(_COLUMNS), **shared, **(_certified_at(at) if at else {})}


def _certified_at(at: Mapping[str, Any]) -> dict[str, Any]:
    low, high = at["ci95"]
    return {
        "certified_radius": at["radius"],
        "certified_accuracy": at["accuracy"],
        "certified_accuracy_ci95_low": low,
        "certified_accuracy_ci95_high": high,
        "certified_accuracy_std": (at.get("seeds") or {}).get("std"),
    }


def _rejection(cell: Mapping[str, Any]) -> dict[str, Any]:
    """What the defense rejects; nothing for one that rejects nothing, and in results of earlier versions."""
    rejection = cell.get("rejection") or {}
    return {
        "rejection_clean_rate": rejection.get("clean_rate"),
        "rejection_adversarial_rate": rejection.get("adversarial_rate"),
        "rejection_auroc": rejection.get("auroc"),
        "accuracy_rejected_wrong": rejection.get("accuracy_rejected_wrong"),
    }


def _perturbation(cell: Mapping[str, Any]) -> dict[str, Any]:
    """The kind and the label of the perturbation set, and the median of its main size; earlier versions have none."""
    perturbation = cell.get("perturbation") or {}
    return {
        "perturbation_kind": perturbation.get("kind"),
        "perturbation": perturbation.get("label"),
        "median_size": cell.get("median_size"),
    }
