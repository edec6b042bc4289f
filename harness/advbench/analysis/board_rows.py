"""What the rows of leaderboards are: the defenses of one model, or all models with their defenses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advbench.analysis.results import rank

__all__ = ["with_rows"]


def with_rows(results: Mapping[str, Any], rows: str) -> dict[str, Any]:
    """The results with other rows on their leaderboards; no number changes.

    Args:
        results: The results, with a leaderboard for each model.
        rows: ``defense`` to leave them as they are. With ``model``, the leaderboards of all models with the same
            dataset and the same attacks become one. Its ``model`` is None, and each of its rows has a ``model``.
    """
    if rows == "defense":
        return dict(results)
    boards: dict[tuple[Any, ...], dict[str, Any]] = {}
    for board in results["leaderboards"]:
        columns = tuple(tuple(column.items()) for column in board["columns"])
        merged = boards.setdefault((board["dataset"], board.get("kind"), columns), {**board, "model": None, "rows": []})
        merged["rows"] += [{**row, "model": board["model"]} for row in board["rows"]]
    for board in boards.values():
        board["rows"] = sorted(board["rows"], key=rank)
    return {**results, "leaderboards": list(boards.values())}
