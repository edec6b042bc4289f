"""Columns of certified accuracies on leaderboards, beside the empirical ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advbench.analysis.set_kinds import LP
from advbench.api.parameters import format_value
from advbench.api.perturbation import NORM_SYMBOLS
from advbench.report.columns import FAILED, NOT_RUN, BoardCell, Column, percent

__all__ = ["certified_cells", "certified_columns", "certified_notes"]

Radius = tuple[str, float]
"""A norm and a radius in it."""

_Names = tuple[str, str, str]

NOTE = (
    "Certified: the share of all samples whose certificate gives the right class and at least this radius, so that no "
    "perturbation within it changes the class; abstentions count as wrong."
)


def certified_columns(
    results: Mapping[str, Any], leaderboard: Mapping[str, Any], names: Sequence[_Names]
) -> tuple[list[Column], list[Radius]]:
    """The columns of a board for the radii at which some of its rows are certified, and these radii.

    Args:
        results: The results.
        leaderboard: The leaderboard; only those of attacks with a norm have such columns.
        names: The full specs of dataset, model and defense of each row.
    """
    if leaderboard.get("kind", LP) != LP:
        return [], []
    own = [entry for entry in results.get("certificates", ()) if _names(entry) in names]
    radii = sorted({(entry["norm"], at["radius"]) for entry in own for at in entry["at"]})
    return [
        Column("certified", (f"{NORM_SYMBOLS[norm]} ≤ {format_value(float(radius))}",)) for norm, radius in radii
    ], radii


def certified_cells(results: Mapping[str, Any], row: tuple[_Names, int], radii: Sequence[Radius]) -> list[BoardCell]:
    """A row's certified accuracy at each radius.

    Args:
        results: The results.
        row: The full specs of its dataset, model and defense, and the number of its samples: certificates of other
            samples are not shown beside them.
        radii: The radii of the board.
    """
    entries = enumerate(results.get("certificates", ()))
    found = ((number, one) for number, one in entries if (_names(one), one["n"]) == row)
    number, entry = next(found, (None, None))
    if number is None or entry is None:
        return [BoardCell(NOT_RUN)] * len(radii)
    known = {(entry["norm"], at["radius"]): at for at in entry["at"]}
    failed = entry["status"] == "error"
    return [_cell(known.get(radius), number, failed=failed) for radius in radii]


def certified_notes(radii: Sequence[Radius]) -> list[str]:
    """What certified accuracies are, if there are any."""
    return [NOTE] if radii else []


def _names(entry: Mapping[str, Any]) -> _Names:
    return entry["dataset"], entry["model"], entry["defense"]


def _cell(at: Mapping[str, Any] | None, number: int, *, failed: bool) -> BoardCell:
    if at is None:
        return BoardCell(FAILED if failed else NOT_RUN, failed=failed, certificate=number)
    low, high = at["ci95"]
    spread = at.get("seeds")
    text = percent(at["accuracy"]) + (f" ± {percent(spread['std'])}" if spread and spread["std"] is not None else "")
    return BoardCell(text, at["accuracy"], interval=(low, high), certificate=number)
