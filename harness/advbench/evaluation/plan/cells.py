"""What a plan is made of: axes, cells, and the adversarial images that cells are scored on."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from advbench.api import Attack, Budget, Dataset, Model, Norm
from advbench.evaluation.plan.keys import cell_key_inputs
from advbench.evaluation.plan.threats import Threat
from advbench.specs import FLOAT32, Chain, full_spec, short_spec

__all__ = ["CHUNK", "AttackTarget", "Axes", "Cell", "Chunk", "full", "short"]

CHUNK = 500
"""How many samples one stored file of adversarial images holds: what a kill costs at most, and what keeps
memory from growing with the number of samples."""


@dataclasses.dataclass(frozen=True)
class Axes:
    """The axes of a matrix, or of one part of it, resolved and checked."""

    datasets: tuple[Dataset, ...]
    models: tuple[Model, ...]
    attacks: tuple[Attack, ...]
    defenses: tuple[Chain, ...]
    threats: tuple[Threat, ...]
    limit: int | None
    seed: int
    eot: int = 10
    score_draws: int = 1
    surrogate: Model | None = None
    precision: str = FLOAT32


@dataclasses.dataclass(frozen=True)
class AttackTarget:
    """What adversarial images are crafted on.

    Attributes:
        model: The model that is attacked, which under the transfer threat is not the one that is scored.
        threat: The threat as far as the images depend on it: ``adaptive``, or else ``oblivious``.
        defense: The defense that the attack sees, or None.
        draws: How often a stochastic one is drawn for a gradient.
        precision: The network's arithmetic while it is attacked.
    """

    model: Model
    threat: str
    defense: Chain | None = None
    draws: int = 1
    precision: str = FLOAT32


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Adversarial images of one attack on some of the samples."""

    key_inputs: dict[str, Any]
    key: str
    ids: tuple[int, ...]
    aim: AttackTarget


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One (dataset, model, attack, threat, defense): the unit of result.

    Attributes:
        skipped: Why it cannot be run, such as shapes that do not fit; empty otherwise.
        failed: What a component raised when it was asked what its key is made of; empty otherwise. Where both
            are empty, the rest is set.
        budget: The attack's budget, or None for a minimal attack.
        norm: The norm of the budget, or that a minimal attack keeps small; None where it names none.
        key: Where its result is stored.
        ids: The samples it is to be measured on.
        chunks: The adversarial images that it is scored on.
        clean_key_inputs: Material of the defended model's predictions on clean images.
        clean_key: Where those are stored.
        draws: How often a stochastic defense is drawn for the score.
        identity: Whether the defense leaves every image as it is.
        stochastic: Whether it is stochastic.
    """

    dataset: Dataset
    model: Model
    attack: Attack
    threat: Threat
    defense: Chain
    seed: int
    skipped: str = ""
    failed: str = ""
    budget: Budget | None = None
    norm: Norm | None = None
    key: str = ""
    ids: tuple[int, ...] = dataclasses.field(default=(), repr=False)
    chunks: tuple[Chunk, ...] = dataclasses.field(default=(), repr=False)
    clean_key_inputs: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    clean_key: str = ""
    draws: int = 1
    identity: bool = False
    stochastic: bool = False

    @property
    def key_inputs(self) -> dict[str, Any]:
        """What the key is the digest of."""
        return cell_key_inputs([chunk.key for chunk in self.chunks], self.clean_key, self.threat.name)

    def label(self) -> str:
        """Its five coordinates for people, parameters at their defaults left out."""
        parts = (self.dataset, self.model, self.attack)
        return f"{' '.join(short(part) for part in parts)} {self.threat.name} {short(self.defense)}"

    def specs(self) -> dict[str, str]:
        """The full specs of its five coordinates, as in records and exports."""
        return {
            "dataset": full(self.dataset),
            "model": full(self.model),
            "attack": full(self.attack),
            "threat": self.threat.name,
            "defense": full(self.defense),
        }


full = functools.lru_cache(maxsize=None)(full_spec)
short = functools.lru_cache(maxsize=None)(short_spec)
"""The full and the short spec of a component or chain, each written once."""
