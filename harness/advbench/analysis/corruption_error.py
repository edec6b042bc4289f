"""The mean corruption error (mCE): errors under corruptions, relative to those of a reference model."""

from __future__ import annotations

import re
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from advbench.analysis.set_kinds import CORRUPTION, set_kind
from advbench.errors import UsageError, listed
from advbench.option_names import option

__all__ = ["check_reference", "with_reference"]

_SEVERITY = re.compile(r"severity=\d+")

_UNDEFENDED = "none"


def check_reference(reference: str | None, models: Collection[tuple[str, str]]) -> str:
    """The full spec of the reference model; empty if there is none.

    Args:
        reference: Its full or short spec, or its alias.
        models: The full and the short spec of each model of the run.

    Raises:
        UsageError: The run does not have it.
    """
    if reference is None:
        return ""
    for full, short in models:
        if reference in (full, short):
            return full
    there = listed(dict.fromkeys(short for _, short in models))
    raise UsageError(f"{option('reference', reference)}: give a model of this run; there are: {there}")


def with_reference(results: Mapping[str, Any], reference: str | None) -> dict[str, Any]:
    """The results with the mean corruption error on the leaderboards of corruptions.

    For each corruption, the error of a defended model, summed over the severities of the run, is divided by that of the
    undefended reference model; the mean over the corruptions is the row's ``mce``. It is None if results are missing or
    the reference makes no error. The leaderboards get the short spec of the model as ``reference``.

    Args:
        results: The results, with a leaderboard for each model.
        reference: The reference model; None to leave the results as they are.

    Raises:
        UsageError: The run does not have the model.

    Source: Hendrycks and Dietterich 2019, section 4.1.
    """
    full = check_reference(reference, {(cell["model"], cell["short"]["model"]): None for cell in results["cells"]})
    if not full:
        return dict(results)
    errors: dict[tuple[str, str, str], dict[str, list[float | None]]] = {}
    for cell in results["cells"]:
        if set_kind(cell) == CORRUPTION and cell["status"] != "skipped":
            corruptions = errors.setdefault((cell["dataset"], cell["model"], cell["defense"]), {})
            error = None if cell["robust_accuracy"] is None else 1 - cell["robust_accuracy"]
            corruptions.setdefault(_SEVERITY.sub("", cell["attack"]), []).append(error)
    short = next(cell["short"]["model"] for cell in results["cells"] if cell["model"] == full)
    boards = []
    for board in results["leaderboards"]:
        if board.get("kind") != CORRUPTION:
            boards.append(board)
            continue
        against = errors.get((board["dataset"], full, _UNDEFENDED), {})
        rows = []
        for row in board["rows"]:
            complete = row["mean"] is not None and row["mean"]["complete"]
            own = errors.get((board["dataset"], board["model"], row["defense"]), {})
            rows.append({**row, "mce": _mce(own, against) if complete else None})
        boards.append({**board, "rows": rows, "reference": short})
    return {**results, "leaderboards": boards}


def _mce(errors: Mapping[str, Sequence[float | None]], against: Mapping[str, Sequence[float | None]]) -> float | None:
    ratios = []
    for corruption, own in errors.items():
        other = against.get(corruption, ())
        if len(own) != len(other) or None in own or None in other or not sum(map(_number, other)):
            return None
        ratios.append(sum(map(_number, own)) / sum(map(_number, other)))
    return statistics.fmean(ratios) if ratios else None


def _number(error: float | None) -> float:
    return error or 0.0
