"""What the results of a run keep of each cell: numbers, and which samples it withstood, a bit each.

A cell's record has a dozen numbers a sample. Runs have thousands of cells, so that records are read one after another
and only this stays in memory.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from advbench.analysis.answers import Answers, clean_answers
from advbench.analysis.measures import accuracy_at, as_number, measure_images, measured_of, withstood

__all__ = ["COORDINATES", "Summary", "summarise"]

COORDINATES = ("dataset", "model", "attack", "threat", "defense")
"""What tells a cell from the others of its run."""

_coordinates = operator.itemgetter(*COORDINATES)


class Summary(NamedTuple):
    """A stored cell, without its samples. Where it failed, all beyond ``error`` is unset.

    Attributes:
        coordinates: Full specs of dataset, model, attack, threat and defense.
        status: ``ok`` or ``error``.
        error: Why it failed, in one line; empty otherwise.
        n: How many samples.
        measured: Its numbers, as :func:`~advbench.analysis.measures.measure_cell` gives them.
        withstood: Per draw of the defense, the samples that are right clean and attacked, as bits of a whole number.
        attacked: Share of the samples that the attacked classifier has right clean and attacked.
        right: How many the attacked classifier has right clean.
        chance: Share of the most frequent label.
        vanished: Of those that are right clean, how many have a gradient of zero.
        no_number: Of those, how many have a gradient that holds a NaN or an infinity.
        flat_at_bounds: Of those, how many have a gradient of exactly zero at the pixels that are 0 or 1 alone.
        without_slope: Of those that are right attacked, too, for how many the attack's loss was flat all the time.
        thrown_away: How many of those were fooled on the way and are not in the end; None where it was not noted.
        rounded_off: How many of those that are fooled rounding to 8 bits makes right again; None where it was not
            measured.
        rounded_on: How many of those that are not fooled rounding makes wrong; None likewise.
        gradient_error: What asking for a gradient raised, or nothing.
        probes: What the defended model answered when it was probed.
        curve: Robust accuracy of the attacked classifier by eps, of a minimal attack.
        broken_by: How many samples each component of the attack fooled, by its place.
        seconds: Time of defense and prediction.
        craft_seconds: Time of the attack.
        held: The samples that the attacked classifier has right clean and attacked, as bits of a whole number in the
            order of ``withstood``.
        answers: What the attacked classifier answers on clean images.
    """

    coordinates: tuple[str, ...]
    status: str
    error: str
    n: int
    measured: Mapping[str, Any] = MappingProxyType({})
    withstood: tuple[int, ...] = ()
    attacked: float = 0.0
    right: int = 0
    chance: float = 0.0
    vanished: int = 0
    no_number: int = 0
    flat_at_bounds: int = 0
    without_slope: int = 0
    thrown_away: int | None = None
    rounded_off: int | None = None
    rounded_on: int | None = None
    gradient_error: str = ""
    probes: Mapping[str, float] = MappingProxyType({})
    curve: Mapping[str, Any] | None = None
    broken_by: Mapping[int, int] | None = None
    seconds: float = 0.0
    craft_seconds: float = 0.0
    held: int = 0
    answers: Answers | None = None

    @property
    def robust(self) -> float:
        """Share of the samples that the defended model withstands, the mean over the draws."""
        share: float = self.measured["robust_accuracy"]
        return share

    @property
    def ok(self) -> bool:
        """Whether it was measured."""
        return self.status == "ok"


def summarise(record: Mapping[str, Any], minimized_norm: str | None) -> Summary:
    """Sums up a record.

    Args:
        record: A cell of the store.
        minimized_norm: The norm that its attack keeps small; None of a budget attack, or where it is unknown.
    """
    coordinates = tuple(map(sys.intern, _coordinates(record)))
    if record["status"] != "ok":
        return Summary(coordinates, record["status"], record["error"], record["n"])
    n, draws = record["n"], withstood(record)
    images = _of_images(minimized_norm, n, *[_fixed(record.get(name)) for name in _OF_IMAGES])
    return Summary(
        coordinates,
        "ok",
        "",
        n,
        measured=measured_of(record, draws, images.measured),
        withstood=draws,
        attacked=images.attacked,
        right=images.right,
        chance=images.chance,
        vanished=images.vanished,
        no_number=images.no_number,
        flat_at_bounds=images.flat_at_bounds,
        without_slope=images.without_slope,
        thrown_away=images.thrown_away,
        rounded_off=images.rounded_off,
        rounded_on=images.rounded_on,
        gradient_error=record.get("gradient_error") or "",
        probes=_shared(tuple((record.get("probes") or {}).items())),
        curve=images.curve,
        broken_by=images.broken_by,
        seconds=record["seconds"],
        craft_seconds=record["craft_seconds"],
        held=draws[0] if draws[0] == images.held else images.held,  # one object where the two are the same
        answers=images.answers,
    )


_OF_IMAGES = (
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
)
"""What a record tells of its adversarial images and of the classifier that was attacked."""


class _Images(NamedTuple):
    """What a summary tells of these; see :class:`Summary`."""

    measured: Mapping[str, Any]
    attacked: float
    right: int
    chance: float
    vanished: int
    no_number: int
    flat_at_bounds: int
    without_slope: int
    thrown_away: int | None
    rounded_off: int | None
    rounded_on: int | None
    curve: Mapping[str, Any] | None
    broken_by: Mapping[int, int] | None
    held: int
    answers: Answers


class _Packed(NamedTuple):
    """An array as what it can be told from another by."""

    kind: str
    content: bytes


def _fixed(values: Any) -> Any:
    """A list or an array of numbers that does not change; None stays None."""
    if isinstance(values, np.ndarray):
        return _Packed(values.dtype.str, values.tobytes())
    return None if values is None else tuple(values)


def _array(fixed: Any) -> np.ndarray[Any, Any]:
    return np.frombuffer(fixed.content, fixed.kind) if isinstance(fixed, _Packed) else np.asarray(fixed)


@functools.lru_cache(maxsize=4)
def _of_images(minimized_norm: str | None, n: int, *fixed: Any) -> _Images:
    """Sums up what is of the images alone: cells of one attack through many defenses follow upon each other."""
    told = {name: _array(one) for name, one in zip(_OF_IMAGES, fixed, strict=True) if one is not None}
    labels = told["labels"]
    right, held = told["attacked_clean_predictions"] == labels, told["attacked_predictions"] == labels
    kept, turned = right & held, right & ~held
    return _Images(
        measured=measure_images(told, right, turned),
        attacked=int(np.count_nonzero(kept)) / n,
        right=int(np.count_nonzero(right)),
        chance=int(np.bincount(labels).max()) / n,
        vanished=_count(right, told.get("vanished")) or 0,
        no_number=_count(right, told.get("nan_gradient")) or 0,
        flat_at_bounds=_count(right, told.get("flat_at_bounds")) or 0,
        without_slope=_count(kept, told.get("loss_without_slope")) or 0,
        thrown_away=_count(kept, told.get("seen")),
        rounded_off=_turned(turned, labels, told.get("attacked_rounded_predictions"), right=True),
        rounded_on=_turned(kept, labels, told.get("attacked_rounded_predictions"), right=False),
        curve=accuracy_at({**told, "n": n}, minimized_norm) if minimized_norm in ("linf", "l2") else None,
        broken_by=Counter(told["component"].tolist()) if "component" in told else None,
        held=as_number(kept),
        answers=clean_answers(labels, told["attacked_clean_predictions"]),
    )


@functools.lru_cache(maxsize=4096)
def _shared(probes: tuple[tuple[str, float], ...]) -> Mapping[str, float]:
    """The same object for cells of one defended model."""
    return dict(probes)


def _count(among: np.ndarray[Any, Any], bits: Any) -> int | None:
    """How many of some samples have a bit set; None where there are no bits, as in records of earlier versions."""
    return None if bits is None else int(np.count_nonzero(among & np.asarray(bits, dtype=bool)))


def _turned(among: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], rounded: Any, *, right: bool) -> int | None:
    """How many of some samples are right, or wrong, once they are rounded; None where that was not measured."""
    return None if rounded is None else int(np.count_nonzero(among & ((np.asarray(rounded) == labels) == right)))
