"""Tasks: plain data in, plain data out, so that any worker can run them."""

from __future__ import annotations

import dataclasses
from typing import Any

from advbench.specs import FLOAT32

__all__ = ["CleanTask", "CraftTask", "Outcome", "ScoreTask", "Task"]


@dataclasses.dataclass(frozen=True)
class CraftTask:
    """Make one chunk of adversarial images.

    Attributes:
        material: What its key is the digest of.
        ids: The samples.
        dataset: The dataset's spec.
        model: Spec of the model that is attacked: under the transfer threat the surrogate.
        attack: The attack's spec.
        threat: The threat as far as the images depend on it: ``adaptive``, or else ``oblivious``.
        defense: The defense's spec; empty where the threat does not see it.
        seed: Seed of all randomness.
        draws: How often a stochastic defense is drawn for a gradient.
        precision: The network's arithmetic while it is attacked.
    """

    material: dict[str, Any]
    ids: tuple[int, ...]
    dataset: str
    model: str
    attack: str
    threat: str
    defense: str
    seed: int
    draws: int = 1
    precision: str = FLOAT32


@dataclasses.dataclass(frozen=True)
class CleanTask:
    """Predict the clean images through a defense, a stochastic one ``draws`` times."""

    material: dict[str, Any]
    ids: tuple[int, ...]
    dataset: str
    model: str
    defense: str
    seed: int
    draws: int = 1


@dataclasses.dataclass(frozen=True)
class ScoreTask:
    """Predict adversarial images through a defense, a stochastic one ``draws`` times, and write the cell."""

    material: dict[str, Any]
    specs: dict[str, str]
    chunks: tuple[tuple[str, tuple[int, ...]], ...]
    clean: str
    seed: int
    draws: int = 1


Task = CraftTask | CleanTask | ScoreTask


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a task ended; ``error`` is empty where it ended well."""

    seconds: float
    error: str = ""
    traceback: str = ""
