"""Results as JSON and as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from typing import Any

from advbench.api import Reporter

__all__ = ["Csv", "Json"]

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
)


@dataclasses.dataclass(frozen=True)
class Json(Reporter):
    """All results: provenance, cells and leaderboards."""

    name = "json"
    suffix = ".json"

    def render(self, results: Mapping[str, Any]) -> str:
        """Renders the whole structure."""
        return json.dumps(results, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


@dataclasses.dataclass(frozen=True)
class Csv(Reporter):
    """Cells in long form, a row each."""

    name = "csv"
    suffix = ".csv"

    def render(self, results: Mapping[str, Any]) -> str:
        """Renders the cells; what was not measured is empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        for cell in results["cells"]:
            low, high = cell["robust_accuracy_ci95"] or (None, None)
            row = {
                **cell,
                "robust_accuracy_ci95_low": low,
                "robust_accuracy_ci95_high": high,
                "warnings": "; ".join(cell["warnings"]),
            }
            writer.writerow({key: row[key] for key in _COLUMNS})
        return text.getvalue()
