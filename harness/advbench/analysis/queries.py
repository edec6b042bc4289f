"""Queries of attacks: how many a success took, and what an attack achieves with a given number."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from advbench.analysis.measures import broken_samples

__all__ = ["CHECKPOINTS", "mean_queries", "measure_queries", "up_to_limit"]

CHECKPOINTS = (*(factor * 10**power for power in (2, 3, 4, 5) for factor in (1, 2, 5)), 1_000_000)
"""The numbers of forwards at which the best size of a minimal attack is recorded."""

_MOST_POINTS = 101
"""The largest number of points of a curve."""


def measure_queries(record: Mapping[str, Any], norm: str | None) -> dict[str, Any] | None:
    """The queries of a finished cell.

    A *forward* is one image in one draw of a stochastic defense that the attack sends through the attacked classifier;
    a *backward* is the same for a gradient. *Broken* samples are predicted correctly clean by the defended model, and
    reach the attack's goal in the score (of the first draw).

    Args:
        record: A cell of the store with status ``ok``.
        norm: The norm that a minimal attack minimises, or None.

    Returns:
        None for a cell of an earlier version. Otherwise:

        - ``forwards`` and ``backwards``: the totals of all samples;
        - ``median_forwards``: the median of a sample, over all samples; like the following entries, None if the attack
          hides to which samples the images of its queries belong;
        - ``median_to_success``: the median of the forwards until the first success, over the broken samples; all
          forwards of a sample whose success was never queried. None for minimal attacks, and if none is broken;
        - ``success``: ``queries`` (ascending, at most 101 values) and ``rate``: the share of the samples correct clean
          that are broken, with a first success within so many forwards. None as before;
        - ``best_sizes``: for a minimal attack in an Lp norm, ``norm`` (L2 if the attack names none), ``queries`` and
          ``median``: the median distance of the nearest success within so many forwards, over the samples correct
          clean; None where at least half of them have none.
    """
    if "total_forwards" not in record:
        return None
    measured = {
        "forwards": record["total_forwards"] or 0,
        "backwards": record["total_backwards"] or 0,
        "median_forwards": None,
        "median_to_success": None,
        "success": None,
        "best_sizes": None,
    }
    forwards = np.asarray(record.get("forwards", ()))
    if len(forwards) != record["n"] or forwards.min() < 0:
        return measured
    correct, broken = broken_samples(record)
    measured["median_forwards"] = float(np.median(forwards))
    first = np.asarray(record.get("first_success", ()))
    if len(first) == len(forwards) and broken.any():
        needed = np.sort(np.where(first < 0, forwards, first)[broken])
        measured["median_to_success"] = float(np.median(needed))
        measured["success"] = _success(needed.tolist(), int(np.count_nonzero(correct)))
    if "best_sizes" in record and correct.any():
        measured["best_sizes"] = _best_sizes(record["best_sizes"], correct, norm or "l2")
    return measured


def _success(needed: list[int], correct: int) -> dict[str, Any]:
    """The success rate as a function of the number of queries, from the sorted numbers that the successes took."""
    steps = min(_MOST_POINTS, len(needed))
    queries = list(dict.fromkeys(needed[(len(needed) * step - 1) // steps] for step in range(1, steps + 1)))
    return {"queries": queries, "rate": [bisect.bisect_right(needed, value) / correct for value in queries]}


def _best_sizes(columns: Sequence[Any], correct: Any, norm: str) -> dict[str, Any]:
    """The medians of the best sizes at the checkpoints; -1 stands for no success."""
    medians = []
    for column in columns:
        sizes = np.asarray(column)[correct]
        median = float(np.median(np.where(sizes < 0, np.inf, sizes)))
        medians.append(median if np.isfinite(median) else None)
    return {"norm": norm, "queries": list(CHECKPOINTS[: len(medians)]), "median": medians}


def up_to_limit(measured: Mapping[str, Any] | None, most: int | None) -> Mapping[str, Any] | None:
    """A result of :func:`measure_queries` whose last best size is at the limit of queries, if that comes first.

    Args:
        measured: The result.
        most: The largest number of forwards that counted; None for any.
    """
    if measured is None or most is None or measured["best_sizes"] is None:
        return measured
    sizes = measured["best_sizes"]
    return {**measured, "best_sizes": {**sizes, "queries": [min(count, most) for count in sizes["queries"]]}}


def mean_queries(measured: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """The mean of the results of :func:`measure_queries` for several seeds; None if one is missing."""
    known = [one for one in measured if one is not None]
    if not known or len(known) < len(measured):
        return None
    mean = {name: _mean([one[name] for one in known]) for name in known[0] if name not in ("success", "best_sizes")}
    return {
        **mean,
        "success": _mean_success([one["success"] for one in known if one["success"]]),
        "best_sizes": _mean_sizes([one["best_sizes"] for one in known if one["best_sizes"]]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _mean_success(curves: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    if not curves:
        return None
    values = sorted({value for curve in curves for value in curve["queries"]})
    steps = min(_MOST_POINTS, len(values))
    queries = [values[(len(values) * step - 1) // steps] for step in range(1, steps + 1)]
    rates = [
        [([0.0, *curve["rate"]])[bisect.bisect_right(curve["queries"], value)] for curve in curves] for value in queries
    ]
    return {"queries": queries, "rate": [statistics.fmean(at) for at in rates]}


def _mean_sizes(sizes: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The means at the checkpoints that all seeds have; None where one of them has no median."""
    if not sizes:
        return None
    medians = zip(*(one["median"] for one in sizes), strict=False)
    means = [None if None in at else statistics.fmean(at) for at in medians]
    return {"norm": sizes[0]["norm"], "queries": sizes[0]["queries"][: len(means)], "median": means}
