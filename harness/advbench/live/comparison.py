"""Comparing the results of two runs, or of two components of one run, from Python."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

from advbench.analysis import compare_components, compare_runs, settings_that_differ
from advbench.errors import UsageError
from advbench.report import comparison_markdown, print_comparison
from advbench.session.opening import tables
from advbench.session.stored_runs import read_records
from advbench.store import Store

__all__ = ["Comparison", "of_components", "of_runs"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two runs, or two components of a run, on the same samples: print it for the table, or take the rows.

    Attributes:
        names: The names of the two runs or components.
        rows: One dictionary for each attack and each worst case, as ``advbench compare --format json`` prints them:
            ``first`` and ``second`` are robust accuracies, ``p`` is from McNemar's exact test, and ``p_holm`` is
            corrected for the number of rows.
        differing: What else differs between two runs: name, and the values in the first and in the second.
    """

    names: tuple[str, str]
    rows: list[dict[str, Any]]
    differing: list[tuple[str, str, str]]

    def __str__(self) -> str:
        text = io.StringIO()
        print_comparison(tables(text), self.names, self.rows, self.differing)
        return text.getvalue().strip("\n")

    def _repr_markdown_(self) -> str:
        return comparison_markdown(self.names, self.rows, self.differing)


def of_runs(first: tuple[Mapping[str, Any], Store], second: tuple[Mapping[str, Any], Store]) -> Comparison:
    """Compares two runs, each given by its manifest and the store that holds it."""
    rows = compare_runs(first[0], _records(first), second[0], _records(second))
    return _comparison((first[0]["run"], second[0]["run"]), rows, settings_that_differ(first[0], second[0]))


def of_components(run: tuple[Mapping[str, Any], Store], axis: str, first: str, second: str) -> Comparison:
    """Compares two defenses, models or attacks of a run, which are given by their full specs."""
    short = {cell[axis]: cell["short"][axis] for cell in run[0]["cells"]}
    rows = compare_components(run[0], _records(run), axis, first, second)
    return _comparison((short[first], short[second]), rows, [])


def _comparison(
    names: tuple[str, str], rows: list[dict[str, Any]], differing: list[tuple[str, str, str]]
) -> Comparison:
    if not rows:
        raise UsageError(f"compare(): {names[0]} and {names[1]} have no finished cell in common, on the same samples")
    return Comparison(names, rows, differing)


def _records(run: tuple[Mapping[str, Any], Store]) -> dict[str, Any]:
    return read_records(run[1], run[0])
