"""What the results of a run keep of each cell: numbers, and which samples it withstood, a bit each.

A cell's record has a dozen numbers a sample. Runs have thousands of cells, so that records are read one after another
and only this stays in memory.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from advbench.analysis.measures import accuracy_at, measured_of, withstood

__all__ = ["COORDINATES", "Summary", "summarise"]

COORDINATES = ("dataset", "model", "attack", "threat", "defense")
"""What tells a cell from the others of its run."""


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """A stored cell, without its samples. Where it failed, all beyond ``error`` is unset.

    Attributes:
        coordinates: Full specs of dataset, model, attack, threat and defense.
        status: ``ok`` or ``error``.
        error: Why it failed, in one line; empty otherwise.
        n: How many samples.
        measured: Its numbers, as :func:`~advbench.analysis.measures.measure_cell` gives them.
        withstood: Per draw of the defense, the samples that are right clean and attacked, as bits of a whole number.
        robust: Share of the samples that the defended model withstands, the mean over the draws.
        attacked: Share of the samples that the attacked classifier has right clean and attacked.
        right: How many the attacked classifier has right clean.
        chance: Share of the most frequent label.
        vanished: Of those that are right clean, how many have a gradient of zero.
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
    """

    coordinates: tuple[str, ...]
    status: str
    error: str
    n: int
    measured: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    withstood: tuple[int, ...] = ()
    robust: float = 0.0
    attacked: float = 0.0
    right: int = 0
    chance: float = 0.0
    vanished: int = 0
    thrown_away: int | None = None
    rounded_off: int | None = None
    rounded_on: int | None = None
    gradient_error: str = ""
    probes: Mapping[str, float] = dataclasses.field(default_factory=dict)
    curve: Mapping[str, Any] | None = None
    broken_by: Mapping[int, int] | None = None
    seconds: float = 0.0
    craft_seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether it was measured."""
        return self.status == "ok"


def summarise(record: Mapping[str, Any], minimises: str | None) -> Summary:
    """Sums up a record.

    Args:
        record: A cell of the store.
        minimises: The norm that its attack keeps small; None of a budget attack, or where it is unknown.
    """
    coordinates = tuple(sys.intern(record[name]) for name in COORDINATES)
    if record["status"] != "ok":
        return Summary(coordinates, record["status"], record["error"], record["n"])
    n = record["n"]
    labels, before, after = (
        np.asarray(record[name]) for name in ("labels", "attacked_clean_predictions", "attacked_predictions")
    )
    right, held = before == labels, after == labels
    kept = right & held
    draws = withstood(record)
    return Summary(
        coordinates,
        "ok",
        "",
        n,
        measured=measured_of(record, draws, right, right & ~held),
        withstood=draws,
        robust=sum(bits.bit_count() for bits in draws) / (len(draws) * n),
        attacked=int(np.count_nonzero(kept)) / n,
        right=int(np.count_nonzero(right)),
        chance=int(np.bincount(labels).max()) / n,
        vanished=_count(right, record.get("vanished")) or 0,
        thrown_away=_count(kept, record.get("seen")),
        rounded_off=_turned(right & ~held, labels, record.get("attacked_rounded_predictions"), right=True),
        rounded_on=_turned(kept, labels, record.get("attacked_rounded_predictions"), right=False),
        gradient_error=record.get("gradient_error") or "",
        probes=_shared(tuple((record.get("probes") or {}).items())),
        curve=accuracy_at(record, minimises) if minimises in ("linf", "l2") else None,
        broken_by=Counter(np.asarray(record["component"]).tolist()) if "component" in record else None,
        seconds=record["seconds"],
        craft_seconds=record["craft_seconds"],
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
