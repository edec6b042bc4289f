"""Summaries of cells: the numbers that results need, and one bit per sample that says whether it was withstood.

A cell's record has a dozen numbers per sample, and a run may have thousands of cells. So records are read one after
another, and only their summaries stay in memory.
"""

from __future__ import annotations

import functools
import operator
import sys
from array import array
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from advbench.analysis.clean_predictions import CleanPredictions, summarise_predictions
from advbench.analysis.measures import (
    accuracy_at,
    attack_bits,
    bits_to_int,
    combine_measures,
    distances_of_successes,
    goal_missed,
    measure_images,
    withstood,
)
from advbench.analysis.queries import measure_queries

__all__ = ["COORDINATES", "Summary", "summarise"]

COORDINATES = ("dataset", "model", "attack", "threat", "defense")
"""The entries that identify a cell in its run."""

_coordinates = operator.itemgetter(*COORDINATES)


class Summary(NamedTuple):
    """A stored cell, without its samples. If the cell failed, all attributes after ``error`` and ``n`` are unset.

    "Correct" samples are those whose clean image the attacked classifier predicts correctly.

    Attributes:
        coordinates: Full specs of dataset, model, attack, threat and defense.
        status: ``ok``, ``error``, or ``skipped`` if its attack cannot be limited to a number of queries.
        error: Why it failed or is skipped, in one line; empty otherwise.
        n: Number of samples.
        measured: The numbers of :func:`~advbench.analysis.measures.measure_cell`.
        withstood: For each draw of the defense, the samples that are predicted correctly both clean and attacked, as
            bits of an integer.
        goal_missed: The same, of the samples that are predicted correctly clean and do not reach the attack's goal.
        attacked_accuracy: Share of the samples that the attacked classifier predicts correctly and on which the attack
            does not reach its goal; for an untargeted attack, its accuracy under the attack.
        attacked_correct: Number of correct samples.
        chance: Share of the most frequent label.
        zero_gradients: Number of correct samples with a gradient of zero.
        nan_gradients: Number of correct samples whose gradient contains NaN or infinity.
        flat_at_bounds: Number of correct samples whose gradient is exactly zero only at pixels that are 0 or 1.
        flat_loss: Number of samples that withstand the attack and whose loss was flat at every step.
        lost_adversarials: Number of samples that reached the goal during the attack but not at its end; None if
            unknown.
        lost_by_rounding: Number of samples that reach the goal, and no longer after rounding to 8 bits; None if not
            measured.
        gained_by_rounding: Number of samples that reach the goal only after rounding; None if not measured.
        gradient_error: The exception raised when computing a gradient, as text; empty if there was none.
        probes: Differences of the defended model's logits when it was tested for randomness.
        curve: For a minimal attack, robust accuracy of the attacked classifier as a function of eps.
        broken_by: Number of samples that each attack of an ensemble fooled, by its index.
        seconds: Time of defense and prediction.
        craft_seconds: Time of the attack.
        attacked_withstood: The samples that ``attacked_accuracy`` counts, as bits of an integer in the order of
            ``withstood``.
        clean_predictions: The attacked classifier's predictions on clean images.
        queries: The result of :func:`~advbench.analysis.queries.measure_queries`.
        distances: For a minimal attack, the distance of each sample at which it reached its goal on the defended model,
            infinite if it did not, and -1 for samples that the defended model predicts wrong without an attack.
    """

    coordinates: tuple[str, ...]
    status: str
    error: str
    n: int
    measured: Mapping[str, Any] = MappingProxyType({})
    withstood: tuple[int, ...] = ()
    goal_missed: tuple[int, ...] = ()
    attacked_accuracy: float = 0.0
    attacked_correct: int = 0
    chance: float = 0.0
    zero_gradients: int = 0
    nan_gradients: int = 0
    flat_at_bounds: int = 0
    flat_loss: int = 0
    lost_adversarials: int | None = None
    lost_by_rounding: int | None = None
    gained_by_rounding: int | None = None
    gradient_error: str = ""
    probes: Mapping[str, float] = MappingProxyType({})
    curve: Mapping[str, Any] | None = None
    broken_by: Mapping[int, int] | None = None
    seconds: float = 0.0
    craft_seconds: float = 0.0
    attacked_withstood: int = 0
    clean_predictions: CleanPredictions | None = None
    queries: Mapping[str, Any] | None = None
    distances: array[float] | None = None

    @property
    def robust(self) -> float:
        """Robust accuracy of the defended model, the mean over the draws."""
        share: float = self.measured["robust_accuracy"]
        return share

    @property
    def ok(self) -> bool:
        """Whether the cell has results."""
        return self.status == "ok"


def summarise(record: Mapping[str, Any], minimized_norm: str | None) -> Summary:
    """Summarises a record.

    Args:
        record: A cell of the store.
        minimized_norm: The norm that its attack minimises; None for a budget attack, or if it is unknown.
    """
    coordinates = tuple(map(sys.intern, _coordinates(record)))
    if record["status"] != "ok":
        return Summary(coordinates, record["status"], record["error"], record["n"])
    n, draws = record["n"], withstood(record)
    images = _summarise_images(minimized_norm, n, *[_hashable(record.get(name)) for name in _IMAGE_FIELDS])
    # Equal integers of many bits share one object.
    attacked_withstood = draws[0] if draws[0] == images.attacked_withstood else images.attacked_withstood
    return Summary(
        coordinates,
        "ok",
        "",
        n,
        measured=combine_measures(record, draws, images.measured),
        withstood=draws,
        goal_missed=draws if (missed := goal_missed(record)) is None else missed,
        attacked_accuracy=images.attacked_accuracy,
        attacked_correct=images.attacked_correct,
        chance=images.chance,
        zero_gradients=images.zero_gradients,
        nan_gradients=images.nan_gradients,
        flat_at_bounds=images.flat_at_bounds,
        flat_loss=images.flat_loss,
        lost_adversarials=images.lost_adversarials,
        lost_by_rounding=images.lost_by_rounding,
        gained_by_rounding=images.gained_by_rounding,
        gradient_error=record.get("gradient_error") or "",
        probes=_shared(tuple((record.get("probes") or {}).items())),
        curve=images.curve,
        broken_by=images.broken_by,
        seconds=record["seconds"],
        craft_seconds=record["craft_seconds"],
        attacked_withstood=attacked_withstood,
        clean_predictions=images.clean_predictions,
        queries=measure_queries(record, minimized_norm),
        distances=None if minimized_norm is None else distances_of_successes(record, minimized_norm),
    )


_IMAGE_FIELDS = (
    "labels",
    "attacked_clean_predictions",
    "attacked_predictions",
    "linf",
    "l2",
    "vanished",
    "nan_gradient",
    "flat_at_bounds",
    "loss_without_slope",
    "seen",
    "attacked_rounded_predictions",
    "component",
    "targets",
    "size",
)
"""The entries of a record that describe its adversarial images and the attacked classifier."""


class _ImageSummary(NamedTuple):
    """The part of a summary that depends only on these entries; see :class:`Summary`."""

    measured: Mapping[str, Any]
    attacked_accuracy: float
    attacked_correct: int
    chance: float
    zero_gradients: int
    nan_gradients: int
    flat_at_bounds: int
    flat_loss: int
    lost_adversarials: int | None
    lost_by_rounding: int | None
    gained_by_rounding: int | None
    curve: Mapping[str, Any] | None
    broken_by: Mapping[int, int] | None
    attacked_withstood: int
    clean_predictions: CleanPredictions


class _HashableArray(NamedTuple):
    """An array in a hashable form."""

    kind: str
    content: bytes


def _hashable(values: Any) -> Any:
    """A list or array of numbers in a hashable form; None stays None."""
    if isinstance(values, np.ndarray):
        return _HashableArray(values.dtype.str, values.tobytes())
    return None if values is None else tuple(values)


def _array(values: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(values.content, values.kind) if isinstance(values, _HashableArray) else np.asarray(values)


@functools.lru_cache(maxsize=4)
def _summarise_images(minimized_norm: str | None, n: int, *fields: Any) -> _ImageSummary:
    """Summarises adversarial images. Cached, because the cells of one attack with many defenses share their images."""
    values = {name: _array(field) for name, field in zip(_IMAGE_FIELDS, fields, strict=True) if field is not None}
    labels = values["labels"]
    correct, fooled = attack_bits(values)
    kept = correct & ~fooled
    rounded = "attacked_rounded_predictions" if "attacked_rounded_predictions" in values else None
    fooled_rounded = None if rounded is None else attack_bits(values, rounded)[1]
    return _ImageSummary(
        measured=measure_images(values, correct, fooled),
        attacked_accuracy=int(np.count_nonzero(kept)) / n,
        attacked_correct=int(np.count_nonzero(correct)),
        chance=int(np.bincount(labels).max()) / n,
        zero_gradients=_count(correct, values.get("vanished")) or 0,
        nan_gradients=_count(correct, values.get("nan_gradient")) or 0,
        flat_at_bounds=_count(correct, values.get("flat_at_bounds")) or 0,
        flat_loss=_count(kept, values.get("loss_without_slope")) or 0,
        lost_adversarials=_count(kept, values.get("seen")),
        lost_by_rounding=None if fooled_rounded is None else _count(fooled, ~fooled_rounded),
        gained_by_rounding=None if fooled_rounded is None else _count(kept, fooled_rounded),
        curve=accuracy_at({**values, "n": n}, minimized_norm) if minimized_norm in ("linf", "l2") else None,
        broken_by=Counter(values["component"].tolist()) if "component" in values else None,
        attacked_withstood=bits_to_int(kept),
        clean_predictions=summarise_predictions(labels, values["attacked_clean_predictions"]),
    )


@functools.lru_cache(maxsize=4096)
def _shared(probes: tuple[tuple[str, float], ...]) -> Mapping[str, float]:
    """One object for all cells of a defended model."""
    return dict(probes)


def _count(among: np.ndarray[Any, Any], bits: Any) -> int | None:
    """Number of the selected samples whose bit is set; None without bits, as in records of earlier versions."""
    return None if bits is None else int(np.count_nonzero(among & np.asarray(bits, dtype=bool)))
