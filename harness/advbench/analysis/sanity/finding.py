"""Findings, and the finished cells that they are about."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from advbench.analysis.class_labels import class_label
from advbench.analysis.summary import Summary
from advbench.analysis.surrogates import attacker, threat_name
from advbench.api.goal import UNTARGETED

__all__ = [
    "AttackOutcome",
    "Finding",
    "FinishedCell",
    "by_attacked_classifier",
    "group_by",
    "indices",
    "one_per_image_set",
    "tolerance",
]

T = TypeVar("T")

MARGIN = 0.002
"""Difference in accuracy up to which a weaker attack may do better by chance (Croce and Hein 2020 flag more)."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A sign that an evaluation is not sound.

    Attributes:
        criterion: The name of the criterion.
        cells: The cells that it is about, as indices in the run.
        message: What was measured, with the numbers.
        advice: What to do next.
    """

    criterion: str
    cells: tuple[int, ...]
    message: str
    advice: str

    def as_dict(self) -> dict[str, Any]:
        """The entry in results.json."""
        return {**dataclasses.asdict(self), "cells": list(self.cells)}


class AttackOutcome(NamedTuple):
    """The result of an attack on one classifier.

    Attributes:
        accuracy: Share of the samples that withstand it.
        withstood: For each draw of the defense, the samples that withstand the attack, as bits of an integer; of a
            targeted attack, those that are not predicted as their targets.
    """

    accuracy: float
    withstood: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class FinishedCell:
    """A finished cell.

    Attributes:
        index: Its index in the run.
        described: Its entry in the manifest, which ``cell[key]`` reads.
        summary: Its results.
        class_names: The names of its dataset's classes; empty if they have none.
    """

    index: int
    described: Mapping[str, Any]
    summary: Summary
    class_names: Sequence[str] = ()

    def __getitem__(self, key: str) -> Any:
        return self.described[key]

    def class_label(self, number: int) -> str:
        """The number of a class, followed by its name if it has one: findings are often about the numbers."""
        return class_label(number, self.class_names)

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.summary.n

    @property
    def attack(self) -> str:
        """The attack's short spec."""
        return str(self.described["short"]["attack"])

    @property
    def defense(self) -> str:
        """The defense's short spec."""
        return str(self.described["short"]["defense"])

    @property
    def model(self) -> str:
        """The model's short spec."""
        return str(self.described["short"]["model"])

    @property
    def where(self) -> str:
        """Defense and threat, for messages."""
        return f"{self.defense}, {threat_name(self.described)}"

    @property
    def draws_model(self) -> bool:
        """Whether the attacked model is stochastic; that of earlier versions is not."""
        return bool(self.described.get("attacked_model_stochastic", False))

    @property
    def attack_draws(self) -> bool:
        """Whether the attacked classifier is stochastic, so that fooling a single draw of it is not a success."""
        return self.draws_model or bool(self.described["stochastic"] and self.described["threat"] == "adaptive")

    @property
    def on_board(self) -> bool:
        """Whether the attacked classifier is the one whose robust accuracy the leaderboard shows."""
        threat = self.described["threat"]
        return bool(threat == "adaptive" or (threat == "oblivious" and self.described.get("identity", False)))

    @property
    def attacked_classifier(self) -> str:
        """The attacked classifier, for messages, which also say if the leaderboard does not show it."""
        if self.on_board:
            numbers = ", ".join(map(str, self.stand_ins))
            return f"{self.where}, approximation {numbers} alone" if numbers else self.where
        surrogate = f"the surrogate {self.described['short'].get('surrogate', '')}".rstrip()
        name = surrogate if self.described["threat"] == "transfer" else "the undefended model"
        return f"{name}, which has no row on the board"

    @functools.cached_property
    def image_set(self) -> tuple[Any, ...]:
        """What identifies its adversarial images: cells with equal values share their images."""
        shared = self.described["threat"] != "adaptive" or self.described.get("identity", False)
        defense = None if shared else self.described["defense"]
        return (*self.pair, attacker(self.described), self.described["attack"], defense)

    @property
    def stand_ins(self) -> tuple[int, ...]:
        """Which approximations of the defense the attack follows; empty for all, and where it sees no defense."""
        return tuple(self.described.get("stand_ins", ())) if self.image_set[4] is not None else ()

    @property
    def pair(self) -> tuple[str, str]:
        """Dataset and model."""
        return self.described["dataset"], self.described["model"]

    @property
    def budget(self) -> tuple[str, float] | None:
        """Norm and eps, or None for an attack that has no such budget."""
        budget = self.described["budget"]
        return None if budget is None else (budget["norm"], budget["eps"])

    @property
    def perturbation_set(self) -> tuple[str, float | str] | None:
        """The bounded set in which the attack searches: norm and eps, or kind and label; None for other attacks.

        Only attacks with equal sets are compared with each other. Minimal attacks have no bound, and corruptions no
        adversary.
        """
        if self.described.get("attack_kind") == "set":
            return self.described["perturbation"]["kind"], self.described["perturbation"]["label"]
        return self.budget

    @property
    def goal(self) -> str:
        """The attack's goal. Only attacks of one goal are compared with each other."""
        return str(self.described.get("goal", UNTARGETED))

    @property
    def robust(self) -> float:
        """Robust accuracy of the defended model."""
        return self.summary.robust

    @property
    def board_outcome(self) -> AttackOutcome:
        """The result on the defended model: for an untargeted attack, the one that the leaderboard shows."""
        if self.goal == UNTARGETED:
            return AttackOutcome(self.summary.robust, self.summary.withstood)
        missed = self.summary.goal_missed
        return AttackOutcome(sum(bits.bit_count() for bits in missed) / len(missed) / self.n, missed)

    @property
    def attacked_outcome(self) -> AttackOutcome:
        """The result on the attacked classifier.

        If the leaderboard shows this classifier, its number is used: a stochastic defense is scored with other draws
        than it is attacked with.
        """
        if self.on_board:
            return self.board_outcome
        return AttackOutcome(self.summary.attacked_accuracy, (self.summary.attacked_withstood,))


def tolerance(n: int) -> float:
    """Difference in accuracy that is ignored: 0.002, or one sample if that is more."""
    return max(MARGIN, 1 / n) + 1e-9


def group_by(cells: Iterable[T], key: Callable[[T], Any]) -> list[Sequence[T]]:
    """Groups cells with equal keys, in order of their first occurrence."""
    groups: dict[Any, list[T]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.values())


def by_attacked_classifier(cells: Sequence[FinishedCell]) -> list[Sequence[FinishedCell]]:
    """Groups the cells whose attacks follow gradients by the attacked classifier."""
    following = [cell for cell in cells if cell["attack_access"] == "gradients"]
    return group_by(following, lambda cell: (*cell.image_set[:3], cell.image_set[4], *cell.stand_ins))


def one_per_image_set(cells: Sequence[FinishedCell]) -> list[FinishedCell]:
    """One cell for each set of adversarial images; if possible one whose attacked classifier is on the leaderboard."""
    groups = group_by(cells, operator.attrgetter("image_set"))
    return [next((cell for cell in group if cell.on_board), group[0]) for group in groups]


def indices(group: Sequence[FinishedCell]) -> tuple[int, ...]:
    """The indices of cells in their run."""
    return tuple(cell.index for cell in group)
