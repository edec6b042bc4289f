"""The same matrix with several seeds: means, and how far apart the seeds are."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from advbench.analysis.intervals import wilson
from advbench.analysis.results import rank

__all__ = ["combine_seeds"]


def combine_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One set of results from those of several seeds.

    Args:
        runs: Results of the same matrix, one a seed, each with its seed in ``run``.

    Returns:
        Results in the form of the first, in which ``clean_accuracy``, ``robust_accuracy`` and worst cases are means
        over the seeds, with Wilson's interval for the samples of one seed; beside each stands its ``…_seeds``:
        ``values``, ``mean`` and ``std`` (None of one seed). A cell that failed with one seed has failed; warnings and
        findings are those of any seed.
    """
    first = dict(runs[0])
    if len(runs) == 1:
        return first
    first["run"] = {**first["run"], "seeds": {str(run["run"]["seed"]): run["run"]["run"] for run in runs}}
    first["cells"] = [_cell(cells) for cells in zip(*(run["cells"] for run in runs), strict=True)]
    first["findings"] = list({str(one): one for run in runs for one in run["findings"]}.values())
    first["leaderboards"] = [
        _board(boards, run_n=first["run"]["n"]) for boards in zip(*(run["leaderboards"] for run in runs), strict=True)
    ]
    return first


def _cell(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    cell = dict(next((one for one in cells if one["status"] != "ok"), cells[0]))
    cell["warnings"] = list(dict.fromkeys(text for one in cells for text in one["warnings"]))
    cell["findings"] = list(dict.fromkeys(name for one in cells for name in one["findings"]))
    if cell["status"] != "ok":
        return cell
    for key in ("clean_accuracy", "robust_accuracy"):
        spread = _spread([one[key] for one in cells])
        cell[key], cell[f"{key}_seeds"] = spread["mean"], spread
    cell["robust_accuracy_ci95"] = list(wilson(cell["robust_accuracy"] * cell["n"], cell["n"]))
    rates = [one["attack_success_rate"] for one in cells if one["attack_success_rate"] is not None]
    cell["attack_success_rate"] = statistics.fmean(rates) if rates else None
    return cell


def _board(boards: Sequence[Mapping[str, Any]], run_n: Mapping[str, int]) -> dict[str, Any]:
    """The first's board with the means of all; its rows are ordered anew by their worst cases."""
    n = run_n[boards[0]["dataset"]]
    by_defense = [{row["defense"]: row for row in board["rows"]} for board in boards]
    rows = [_row([rows[defense] for rows in by_defense], n) for defense in by_defense[0]]
    rows.sort(key=rank)
    return {**boards[0], "rows": rows}


def _row(rows: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
    row = dict(rows[0])
    clean = [one["clean_accuracy"] for one in rows if one["clean_accuracy"] is not None]
    row["clean_accuracy"] = statistics.fmean(clean) if clean else None
    row["worst_case"] = _worst([one["worst_case"] for one in rows], n)
    row["worst_case_under"] = {
        threat: _worst([one["worst_case_under"][threat] for one in rows], n) for threat in row["worst_case_under"]
    }
    return row


def _worst(cases: Sequence[Mapping[str, Any] | None], n: int) -> dict[str, Any] | None:
    done = [case for case in cases if case is not None]
    if not done:
        return None
    spread = _spread([case["accuracy"] for case in done])
    return {
        "accuracy": spread["mean"],
        "ci95": list(wilson(spread["mean"] * n, n)),
        "complete": len(done) == len(cases) and all(case["complete"] for case in done),
        "seeds": spread,
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "values": list(values),
        "mean": statistics.fmean(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
    }
