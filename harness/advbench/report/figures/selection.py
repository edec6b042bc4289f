"""The figures that are drawn by default: a dozen, about the strongest attacks and the best defenses."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from advbench.report.figures.drawing import Drawing, Subject

__all__ = ["MOST", "Ranking", "cells_with_images", "dozen"]

MOST = 12
"""How many figures are drawn by default."""

_KINDS = ("scatter", "eps", "sweep", "queries", "attacks", "reconstructions", "strips", "confusion")
_THREATS = ("adaptive", "transfer", "oblivious")
_ATTACKS, _DEFENSES = 3, 8

Cell = Mapping[str, Any]


class Ranking:
    """Ranks attacks from the strongest and defenses from the best, for each dataset and model.

    Args:
        cells: The cells of the results. An attack is ranked by the mean of its robust accuracies, a defense by its
            lowest robust accuracy, then by the mean.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        attacks: dict[tuple[str, ...], dict[str, list[float]]] = {}
        defenses: dict[tuple[str, ...], dict[str, list[float]]] = {}
        for cell in cells:
            if cell["status"] == "ok":
                where, accuracy = (cell["dataset"], cell["model"]), cell["robust_accuracy"]
                attacks.setdefault(Subject.of(cell).attacker, {}).setdefault(cell["attack"], []).append(accuracy)
                defenses.setdefault(where, {}).setdefault(cell["defense"], []).append(accuracy)
        self._attacks = {
            where: sorted(known, key=lambda name, known=known: statistics.fmean(known[name]))  # type: ignore[misc]
            for where, known in attacks.items()
        }
        self._defenses = {
            where: sorted(known, key=lambda name, known=known: (-min(known[name]), -statistics.fmean(known[name])))  # type: ignore[misc]
            for where, known in defenses.items()
        }

    def attack(self, subject: Subject) -> int:
        """The position of an attack among those of its dataset, model, threat and surrogate; 0 for the strongest."""
        known = self._attacks.get(subject.attacker, [])
        return known.index(subject.attack) if subject.attack in known else len(known)

    def defense(self, subject: Subject) -> int:
        """The position of a defense among those of its dataset and model, from 0 for the best or for all of them."""
        known = self._defenses.get((subject.dataset, subject.model), [])
        return known.index(subject.defense) if subject.defense in known else 0

    def key(self, drawn: Drawing) -> tuple[int, int]:
        """Sort key of figures of one kind."""
        if drawn.subject is None:
            return (0, 0)
        return self.attack(drawn.subject) + self.defense(drawn.subject), _threat(drawn.subject.threat)


def _threat(name: str) -> int:
    return _THREATS.index(name) if name in _THREATS else len(_THREATS)


def cells_with_images(cells: Sequence[Cell], finished: Collection[int], ranking: Ranking) -> list[int]:
    """The cells whose example images the default figures show; computing those of all cells would take long.

    These are, for each dataset, model, threat and surrogate, the cells of the strongest attack, and one cell of each of
    the three strongest attacks.

    Args:
        cells: The cells of the manifest.
        finished: The indices of the cells to choose from.
        ranking: The ranking of the results.

    Returns:
        Their indices, ascending.
    """
    chosen: set[int] = set()
    groups: dict[tuple[str, ...], dict[int, list[int]]] = {}
    for index in finished:
        cell = cells[index]
        subject = Subject.of(cell)
        group = groups.setdefault(subject.attacker, {})
        group.setdefault(ranking.attack(subject), []).append(index)
    for group in groups.values():
        for number, attack in enumerate(sorted(group)[:_ATTACKS]):
            of_attack = sorted(group[attack], key=lambda index: ranking.defense(Subject.of(cells[index])))
            bare = [index for index in of_attack if cells[index]["identity"]]
            chosen.update((bare or of_attack)[:1])
            if number == 0:
                chosen.update([index for index in of_attack if not cells[index]["identity"]][:_DEFENSES])
    return sorted(chosen)


def dozen(drawings: Iterable[Drawing], ranking: Ranking) -> list[Drawing]:
    """The figures for a paper: in turn one of each kind, until there are twelve.

    Args:
        drawings: The figures of a run.
        ranking: The ranking of the results.

    Returns:
        At most ``MOST`` figures, in their given order.
    """
    drawings = list(drawings)
    kinds: dict[str, list[Drawing]] = {kind: [] for kind in _KINDS}
    for drawn in drawings:
        kinds[drawn.kind].append(drawn)
    places = {
        drawn.name: (place, _KINDS.index(kind))
        for kind, of_kind in kinds.items()
        for place, drawn in enumerate(sorted(of_kind, key=ranking.key))
    }
    chosen = sorted(places, key=lambda name: places[name])[:MOST]
    return [drawn for drawn in drawings if drawn.name in chosen]
