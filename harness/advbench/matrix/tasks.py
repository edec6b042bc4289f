"""Tasks: plain data in, plain data out, so that any worker can run them."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["CleanTask", "CraftTask", "Outcome", "ScoreTask", "Task"]


@dataclasses.dataclass(frozen=True)
class CraftTask:
    """Make one chunk of adversarial images; ``defense`` is empty where the threat does not see it."""

    material: dict[str, Any]
    ids: tuple[int, ...]
    dataset: str
    model: str
    attack: str
    threat: str
    defense: str
    seed: int


@dataclasses.dataclass(frozen=True)
class CleanTask:
    """Predict the clean images through a defense."""

    material: dict[str, Any]
    ids: tuple[int, ...]
    dataset: str
    model: str
    defense: str
    seed: int


@dataclasses.dataclass(frozen=True)
class ScoreTask:
    """Predict adversarial images through a defense and write the cell."""

    material: dict[str, Any]
    specs: dict[str, str]
    chunks: tuple[tuple[str, tuple[int, ...]], ...]
    clean: str
    seed: int


Task = CraftTask | CleanTask | ScoreTask


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a task ended; ``error`` is empty where it ended well."""

    seconds: float
    error: str = ""
    traceback: str = ""
