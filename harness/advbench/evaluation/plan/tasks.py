"""Tasks: plain data in, plain data out, so that any worker can run them."""

from __future__ import annotations

import dataclasses
from typing import Any

from advbench.evaluation.plan.keys import cell_key_inputs
from advbench.specs import FLOAT32

__all__ = ["CleanTask", "CraftTask", "JoinTask", "Outcome", "ScoreTask", "Task"]


@dataclasses.dataclass(frozen=True, slots=True)
class CraftTask:
    """Make one chunk of adversarial images, or a part of it.

    Attributes:
        key_inputs: What the chunk's key is the digest of.
        ids: The chunk's samples.
        dataset: The dataset's spec.
        model: Spec of the model that is attacked: under the transfer threat the surrogate.
        attack: The attack's spec.
        threat: The threat as far as the images depend on it: ``adaptive``, or else ``oblivious``.
        defense: The defense's spec; empty where the threat does not see it.
        seed: Seed of all randomness.
        draws: How often a stochastic defense is drawn for a gradient.
        precision: The network's arithmetic while it is attacked.
        part: The samples to attack: the place of the first, and of the first after them; None for all.
    """

    key_inputs: dict[str, Any]
    ids: tuple[int, ...]
    dataset: str
    model: str
    attack: str
    threat: str
    defense: str
    seed: int
    draws: int = 1
    precision: str = FLOAT32
    part: tuple[int, int] | None = None

    @property
    def places(self) -> range:
        """The samples to attack, as places in the chunk."""
        return range(*(self.part or (0, len(self.ids))))


@dataclasses.dataclass(frozen=True, slots=True)
class JoinTask:
    """Make a chunk of its parts.

    Attributes:
        key_inputs: What the chunk's key is the digest of.
        parts: Its parts, in order.
    """

    key_inputs: dict[str, Any]
    parts: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, slots=True)
class CleanTask:
    """Predict the clean images through a defense, a stochastic one ``draws`` times."""

    key_inputs: dict[str, Any]
    ids: tuple[int, ...]
    dataset: str
    model: str
    defense: str
    seed: int
    draws: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class ScoreTask:
    """Predict adversarial images through a defense, a stochastic one ``draws`` times, and write the cell.

    Attributes:
        specs: The full specs of the cell's five coordinates.
        chunks: The keys of its adversarial images, each with the samples that are in there.
        clean: The key of the defended model's predictions on clean images.
        seed: Seed of all randomness.
        draws: How often a stochastic defense is drawn.
    """

    specs: dict[str, str]
    chunks: tuple[tuple[str, tuple[int, ...]], ...]
    clean: str
    seed: int
    draws: int = 1

    @property
    def key_inputs(self) -> dict[str, Any]:
        """What the cell's key is the digest of."""
        return cell_key_inputs([key for key, _ in self.chunks], self.clean, self.specs["threat"])


Task = CraftTask | JoinTask | CleanTask | ScoreTask


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended.

    Attributes:
        seconds: How long it took.
        error: What failed; empty where it ended well.
        traceback: Where.
        busy: Whether another run is at the same work now, so that nothing was done.
        culprit: The component that has changed the process for all others, so that it must not be used again: its axis,
            such as ``defense``, and its spec in the task; None where none has.
        batch_size: With how many images at once it was done, where those asked for were too many for the memory.
    """

    seconds: float
    error: str = ""
    traceback: str = ""
    busy: bool = False
    batch_size: int | None = None
    culprit: tuple[str, str] | None = None
