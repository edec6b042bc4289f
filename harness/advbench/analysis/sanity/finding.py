"""Findings, and the finished cells that they are made of."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from advbench.analysis.summary import Summary

__all__ = ["Finding", "Seen", "grouped", "tolerance"]

T = TypeVar("T")

MARGIN = 0.002
"""By how much of the accuracy a weaker attack may be ahead by chance (Croce and Hein 2020 flag more than that)."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that speaks against an evaluation.

    Attributes:
        criterion: Its name.
        cells: Which cells it concerns, as positions in the run.
        message: What was seen, with the numbers.
        advice: What to do next.
    """

    criterion: str
    cells: tuple[int, ...]
    message: str
    advice: str

    def as_dict(self) -> dict[str, Any]:
        """For results.json."""
        return {**dataclasses.asdict(self), "cells": list(self.cells)}


@dataclasses.dataclass(frozen=True)
class Seen:
    """A finished cell.

    Attributes:
        place: Its position in the run.
        told: What the manifest says of it.
        summary: What was stored of it.
    """

    place: int
    told: Mapping[str, Any]
    summary: Summary

    def __getitem__(self, key: str) -> Any:
        return self.told[key]

    @property
    def n(self) -> int:
        """How many samples."""
        return self.summary.n

    @property
    def attack(self) -> str:
        """The attack's short spec."""
        return str(self.told["short"]["attack"])

    @property
    def defense(self) -> str:
        """The defense's short spec."""
        return str(self.told["short"]["defense"])

    @property
    def where(self) -> str:
        """Where it stands, for people."""
        return f"{self.defense}, {self.told['threat']}"

    @functools.cached_property
    def images(self) -> tuple[Any, ...]:
        """What its adversarial images were crafted on: cells with the same share their images."""
        shared = self.told["threat"] != "adaptive" or self.told.get("identity", False)
        return (*self.pair, self.told["threat"], self.told["attack"], None if shared else self.told["defense"])

    @property
    def pair(self) -> tuple[str, str]:
        """Dataset and model."""
        return self.told["dataset"], self.told["model"]

    @property
    def budget(self) -> tuple[str, float] | None:
        """Norm and eps, or None for a minimal attack."""
        budget = self.told["budget"]
        return None if budget is None else (budget["norm"], budget["eps"])

    @property
    def robust(self) -> float:
        """Robust accuracy of the defended model."""
        return self.summary.robust

    @property
    def attacked(self) -> float:
        """Robust accuracy of the classifier that was attacked."""
        return self.summary.attacked


def tolerance(n: int) -> float:
    """How much better the weaker of two attacks may do before it counts: .002, or one sample of a small run."""
    return max(MARGIN, 1 / n) + 1e-9


def grouped(cells: Iterable[T], key: Callable[[T], Any]) -> list[Sequence[T]]:
    """Cells with equal keys together, in the order in which they come."""
    groups: dict[Any, list[T]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.values())
