"""The certificates of a plan: which models and defenses certify, and the keys under which their results are stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

from advbench.api import Dataset, Defense, Model, Norm
from advbench.evaluation.plan.cells import Cell, DefenseFit, full, short
from advbench.evaluation.plan.keys import certificate_key_inputs
from advbench.specs import Chain
from advbench.store import digest_of

__all__ = ["PIECE", "Certification", "Piece", "certifications_of", "certifier_of"]

PIECE = 50
"""How many samples one stored record of certificates holds; certificates take long, so that a killed run loses few."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """The certificates of some samples, which one task computes."""

    key_inputs: dict[str, Any]
    key: str
    ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Certification:
    """A model or a defense that certifies its answers.

    Attributes:
        dataset: The dataset.
        model: The model.
        defense: The defense in front of the model; the undefended baseline if the model certifies.
        norm: The norm of the radii.
        votes: Of how many votes the defense's logits are shares, or None.
        seed: The run's seed.
        short: What reports call dataset, model and defense.
        pieces: The samples, in order.
        fits: What the parts of the defense are fitted to, each after those that it needs.
    """

    dataset: Dataset
    model: Model
    defense: Chain
    norm: Norm
    votes: int | None
    seed: int
    short: dict[str, str]
    pieces: tuple[Piece, ...]
    fits: tuple[DefenseFit, ...] = ()

    def specs(self) -> dict[str, str]:
        """The full specs of dataset, model and defense."""
        return {"dataset": full(self.dataset), "model": full(self.model), "defense": full(self.defense)}

    def label(self) -> str:
        """What messages call it."""
        return f"certificates of {short(self.model)}" + (
            "" if self.defense.identity else f" behind {short(self.defense)}"
        )


def certifier_of(model: Model, defense: Chain) -> Model | Defense | None:
    """What certifies a model behind a defense: the first part of the defense, or the model if there is no defense."""
    certifier = model if defense.identity else defense.parts[0]
    return None if certifier.certified_norm is None else certifier


def certifications_of(cells: Iterable[Cell]) -> Iterator[Certification]:
    """The certifications of the models and defenses of cells that can be run, each once, on the most samples it has."""
    largest: dict[tuple[Dataset, Model, Chain], Cell] = {}
    for cell in cells:
        identity = (cell.dataset, cell.model, cell.defense)
        if cell.clean_key and (identity not in largest or len(cell.ids) > len(largest[identity].ids)):
            largest[identity] = cell
    for identity, cell in largest.items():
        certifier = certifier_of(cell.model, cell.defense)
        if certifier is None or certifier.certified_norm is None:
            continue
        names = cell.short_names()
        yield Certification(
            *identity,
            certifier.certified_norm,
            cell.defense.votes,
            cell.seed,
            {axis: names[axis] for axis in ("dataset", "model", "defense")},
            tuple(_pieces(cell, certifier)),
            cell.defense_fits,
        )


def _pieces(cell: Cell, certifier: Model | Defense) -> Iterator[Piece]:
    for start in range(0, len(cell.ids), PIECE):
        ids = cell.ids[start : start + PIECE]
        key_inputs = certificate_key_inputs(cell.clean_key_inputs, ids, certifier)
        yield Piece(key_inputs, digest_of(key_inputs), ids)
