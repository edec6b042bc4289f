"""Findings, and the finished cells that they are made of."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from advbench.analysis.summary import Summary

__all__ = ["Finding", "Seen", "Standing", "crafted", "grouped", "places", "tolerance"]

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


class Standing(NamedTuple):
    """What an attack leaves of one classifier.

    Attributes:
        share: Accuracy under the attack.
        withstood: Per draw of the defense, the samples withstood, as bits of a whole number.
    """

    share: float
    withstood: tuple[int, ...]


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

    @property
    def on_board(self) -> bool:
        """Whether the classifier that was attacked is the one whose robust accuracy the board shows."""
        threat = self.told["threat"]
        return bool(threat == "adaptive" or (threat == "oblivious" and self.told.get("identity", False)))

    @property
    def victim(self) -> str:
        """The classifier that was attacked, for people; where the board does not show it, that is said."""
        if self.on_board:
            return self.where
        name = "the surrogate" if self.told["threat"] == "transfer" else "the undefended model"
        return f"{name}, which has no row on the board"

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
    def shown(self) -> Standing:
        """What the board shows: what the attack leaves of the defended model."""
        return Standing(self.summary.robust, self.summary.withstood)

    @property
    def attacked(self) -> Standing:
        """What the attack leaves of the classifier that it attacked; what the board shows wherever it shows that.

        A stochastic defense is scored with other draws than it was attacked with: the board's are the ones that count.
        """
        return self.shown if self.on_board else Standing(self.summary.attacked, (self.summary.held,))


def tolerance(n: int) -> float:
    """How much better the weaker of two attacks may do before it counts: .002, or one sample of a small run."""
    return max(MARGIN, 1 / n) + 1e-9


def grouped(cells: Iterable[T], key: Callable[[T], Any]) -> list[Sequence[T]]:
    """Cells with equal keys together, in the order in which they come."""
    groups: dict[Any, list[T]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.values())


def crafted(cells: Sequence[Seen]) -> list[Seen]:
    """One cell for each set of adversarial images: the one in which the board shows the attacked classifier, if any."""
    groups = grouped(cells, operator.attrgetter("images"))
    return [next((cell for cell in group if cell.on_board), group[0]) for group in groups]


def places(group: Sequence[Seen]) -> tuple[int, ...]:
    """The positions of cells in their run."""
    return tuple(cell.place for cell in group)
