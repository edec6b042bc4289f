"""Combining the results of one matrix with several seeds: means and deviations."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from advbench.analysis.intervals import wilson
from advbench.analysis.queries import mean_queries
from advbench.analysis.results import rank

__all__ = ["combine_seeds", "mean_curve"]


_KNOWN = (
    "attack_success_rate",
    "target_success_rate",
    "median_linf",
    "median_l2",
    "median_size",
    "seconds",
    "craft_seconds",
)
"""Numbers of a cell that are averaged over the seeds that have them; all seeds have accuracies."""

_CURVE_POINTS = 101
"""Largest number of points of a curve, the same as for a single seed."""


def combine_seeds(runs: Sequence[Mapping[str, Any]], command: str = "") -> dict[str, Any]:
    """Combines the results of several seeds.

    Args:
        runs: Results of the same matrix, one per seed, each with its seed in ``run``.
        command: The command that runs all seeds; by default that of the first.

    Returns:
        Results in the format of a single seed. Accuracies, success rates, medians, seconds, curves and worst cases are
        means over the seeds; accuracies have Wilson's interval for the samples of one seed. Next to each number is an
        entry ``…_seeds`` with ``values``, ``mean`` and ``std`` (None for one seed). Draws of a stochastic defense are
        pooled over the seeds, with the standard deviation within a seed. A cell has failed if it failed with any seed.
        Warnings and findings of any seed are included; they name the seeds unless all seeds have them.
    """
    first = dict(runs[0])
    if len(runs) == 1:
        return first
    seeds = [str(run["run"]["seed"]) for run in runs]
    first["run"] = {**first["run"], "command": command or first["run"]["command"]}
    first["run"] |= {"seeds": {seed: run["run"]["run"] for seed, run in zip(seeds, runs, strict=True)}}
    first["cells"] = [_cell(cells, seeds) for cells in zip(*(run["cells"] for run in runs), strict=True)]
    if first.get("certificates"):
        first["certificates"] = [
            _certificates(entries) for entries in zip(*(run["certificates"] for run in runs), strict=True)
        ]
    first["findings"] = _findings([run["findings"] for run in runs], seeds)
    first["leaderboards"] = [_board(boards) for boards in zip(*(run["leaderboards"] for run in runs), strict=True)]
    return first


def _cell(cells: Sequence[Mapping[str, Any]], seeds: Sequence[str]) -> dict[str, Any]:
    failed = [other for status in ("error", "skipped") for other in cells if other["status"] == status]
    cell = dict(failed[0] if failed else cells[0])
    cell["findings"] = list(dict.fromkeys(name for other in cells for name in other["findings"]))
    texts = _with_seeds([other["warnings"] for other in cells], seeds)
    cell["warnings"] = [_named(text, sources, cell["findings"]) for text, sources in texts]
    if failed:
        errors = _with_seeds([[other["error"]] if other["status"] == cell["status"] else [] for other in cells], seeds)
        cell["error"] = "; ".join(text if text == "not run" else _named(text, sources, ()) for text, sources in errors)
        return cell
    for key in ("clean_accuracy", "robust_accuracy", *_KNOWN):
        spread = _spread([other[key] for other in cells])
        cell[key], cell[f"{key}_seeds"] = spread["mean"], spread
    cell["robust_accuracy_ci95"] = list(wilson(cell["robust_accuracy"] * cell["n"], cell["n"]))
    cell["robust_accuracy_draws"] = _draws([other["robust_accuracy_draws"] for other in cells])
    cell["protocols"] = _protocols([other["protocols"] for other in cells], cell["n"])
    cell["curve"] = mean_curve([other["curve"] for other in cells if other["curve"] is not None])
    rejections = [other["rejection"] for other in cells if other.get("rejection")]
    if rejections:
        cell["rejection"] = {key: statistics.fmean(each[key] for each in rejections) for key in rejections[0]}
    cell["queries"] = mean_queries([other.get("queries") for other in cells])
    if cell["broken_by"]:
        counts = [other["broken_by"] for other in cells]
        means = {name: statistics.fmean(count[name] for count in counts) for name in counts[0]} if all(counts) else None
        cell["broken_by"] = means
    return cell


def _protocols(seeds: Sequence[Mapping[str, Any] | None], n: int) -> dict[str, Any] | None:
    """The accuracies under each protocol, as means over the seeds."""
    known = [protocols for protocols in seeds if protocols is not None]
    if not known:
        return None
    means = {}
    for name in known[0]:
        clean, robust = (
            statistics.fmean(one[name][key] for one in known) for key in ("clean_accuracy", "robust_accuracy")
        )
        interval = list(wilson(robust * n, n))
        means[name] = {"clean_accuracy": clean, "robust_accuracy": robust, "robust_accuracy_ci95": interval}
    return means


def _certificates(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The certificates of a defended model with the means over all seeds, or those of the seed in which they failed."""
    failed = next((entry for entry in entries if entry["status"] != "ok"), None)
    if failed is not None:
        return dict(failed)
    first, n = dict(entries[0]), entries[0]["n"]
    medians = [entry["median_radius"] for entry in entries if entry["median_radius"] is not None]
    first["accuracy"] = _certified([entry["accuracy"] for entry in entries], n)
    first["at"] = [_certified(values, n) for values in zip(*(entry["at"] for entry in entries), strict=True)]
    first["abstained"] = statistics.fmean(entry["abstained"] for entry in entries)
    first["median_radius"] = statistics.fmean(medians) if medians else None
    first["curve"] = mean_curve([entry["curve"] for entry in entries])
    first["seconds"] = statistics.fmean(entry["seconds"] for entry in entries)
    return first


def _certified(values: Sequence[Mapping[str, Any]], n: int) -> dict[str, Any]:
    spread = _spread([value["accuracy"] for value in values])
    accuracy = {"accuracy": spread["mean"], "ci95": list(wilson(spread["mean"] * n, n)), "seeds": spread}
    return {**values[0], **accuracy}


def _draws(spreads: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The draws of all seeds: their number per seed, the minimum, the maximum, and the deviation within a seed."""
    known = [spread for spread in spreads if spread is not None]
    if not known:
        return None
    return {
        "n": known[0]["n"],
        "min": min(spread["min"] for spread in known),
        "max": max(spread["max"] for spread in known),
        "std": math.sqrt(statistics.fmean(spread["std"] ** 2 for spread in known)),
    }


def mean_curve(curves: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The mean of curves, each of which is a step function of eps."""
    if not curves:
        return None
    all_eps = sorted({eps for curve in curves for eps in curve["eps"]})
    steps = min(_CURVE_POINTS, len(all_eps)) - 1
    eps = [all_eps[(len(all_eps) - 1) * step // max(1, steps)] for step in range(steps + 1)]
    accuracy = [
        statistics.fmean(curve["accuracy"][bisect.bisect_right(curve["eps"], value) - 1] for curve in curves)
        for value in eps
    ]
    return {"norm": curves[0]["norm"], "eps": eps, "accuracy": accuracy}


def _findings(runs: Sequence[Sequence[Mapping[str, Any]]], seeds: Sequence[str]) -> list[dict[str, Any]]:
    by_text = {str(finding): finding for run in runs for finding in run}
    texts = _with_seeds([[str(finding) for finding in run] for run in runs], seeds)
    return [{**by_text[text], "message": _named(str(by_text[text]["message"]), sources, ())} for text, sources in texts]


def _with_seeds(runs: Sequence[Sequence[str]], seeds: Sequence[str]) -> list[tuple[str, str]]:
    """The distinct texts, each with the seeds that have it; with an empty text if all seeds have it."""
    sources: dict[str, list[str]] = {}
    for seed, texts in zip(seeds, runs, strict=True):
        for text in dict.fromkeys(texts):
            sources.setdefault(text, []).append(seed)
    return [(text, "" if len(having) == len(seeds) else _words(having)) for text, having in sources.items()]


def _words(seeds: Sequence[str]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(seeds[:-1])} and {seeds[-1]}"


def _named(text: str, sources: str, criteria: Sequence[str]) -> str:
    """A text with its seeds, inserted after the name of its criterion if the text starts with one."""
    if not sources:
        return text
    prefix = next((f"{name}: " for name in criteria if text.startswith(f"{name}: ")), "")
    return f"{prefix}{sources}: {text.removeprefix(prefix)}"


def _board(boards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The leaderboard with the means over all seeds, sorted again by worst case."""
    by_defense = [{row["defense"]: row for row in board["rows"]} for board in boards]
    rows = [_row([rows[defense] for rows in by_defense]) for defense in by_defense[0]]
    rows.sort(key=rank)
    return {**boards[0], "rows": rows}


def _row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    row, n = dict(rows[0]), rows[0]["n"]
    clean = _spread([other["clean_accuracy"] for other in rows])
    row["clean_accuracy"], row["clean_accuracy_seeds"] = clean["mean"], clean
    row["worst_case"] = _worst([other["worst_case"] for other in rows], n)
    if "mean" in row:
        row["mean"] = _worst([other["mean"] for other in rows], n)
    row["worst_case_under"] = {
        threat: _worst([other["worst_case_under"][threat] for other in rows], n) for threat in row["worst_case_under"]
    }
    return row


def _worst(cases: Sequence[Mapping[str, Any] | None], n: int) -> dict[str, Any] | None:
    """The mean over the seeds. A seed without results counts as 1, so that what is incomplete stays an upper bound."""
    done = [case for case in cases if case is not None]
    if not done:
        return None
    accuracy = statistics.fmean(1.0 if case is None else case["accuracy"] for case in cases)
    return {
        "accuracy": accuracy,
        "ci95": list(wilson(accuracy * n, n)),
        "complete": len(done) == len(cases) and all(case["complete"] for case in done),
        "seeds": {**_spread([None if case is None else case["accuracy"] for case in cases]), "mean": accuracy},
    }


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    """The values of all seeds, with the mean and deviation of those that are known."""
    known = [value for value in values if value is not None]
    return {
        "values": list(values),
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }
