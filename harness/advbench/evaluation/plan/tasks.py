"""Tasks: plain data that any worker can receive, and what each task does with a worker's workspace."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol

from advbench.evaluation.plan.keys import cell_key_inputs
from advbench.specs import FLOAT32
from advbench.store import Store, digest_of

__all__ = [
    "CertifyTask",
    "CleanTask",
    "CraftTask",
    "DefenseFitTask",
    "FitTask",
    "JoinTask",
    "Outcome",
    "ScoreTask",
    "Task",
    "TaskWorkspace",
    "batch_step",
]


class TaskWorkspace(Protocol):
    """What a worker offers to its tasks; :mod:`advbench.evaluation.work.execute` implements it."""

    def fit(self, task: FitTask) -> None:
        """Fits an attack and stores its artefact."""

    def fit_defense(self, task: DefenseFitTask) -> None:
        """Fits a part of a defense and stores its artefact."""

    def craft(self, task: CraftTask) -> None:
        """Makes and stores adversarial images."""

    def join(self, task: JoinTask) -> None:
        """Joins and stores the parts of a chunk."""

    def predict_clean(self, task: CleanTask) -> None:
        """Predicts clean images and stores the predictions."""

    def score(self, task: ScoreTask) -> None:
        """Predicts adversarial images and stores the cell."""

    def certify(self, task: CertifyTask) -> None:
        """Certifies clean images and stores the certificates."""


@dataclasses.dataclass(frozen=True, slots=True)
class _SampleTask:
    """What the tasks that process samples of a dataset share.

    Attributes:
        key_inputs: What the key of the result is the digest of.
        ids: The samples.
        dataset: The spec of their dataset.
        model: The model's spec: the surrogate for an attack under the transfer threat.
    """

    key_inputs: dict[str, Any]
    ids: tuple[int, ...]
    dataset: str
    model: str

    @property
    def samples(self) -> int:
        """How many samples the task processes."""
        return len(self.ids)

    @property
    def claim(self) -> str:
        """The name under which a run claims this work, so that no other run does it meanwhile."""
        return digest_of(self.key_inputs)


@dataclasses.dataclass(frozen=True, slots=True)
class FitTask(_SampleTask):
    """Fit an attack to data on what it attacks.

    Attributes:
        attack: The attack's spec.
        threat: The threat as far as the artefact depends on it: ``adaptive``, or else ``oblivious``.
        defense: The defense's spec; empty if the attack does not see it.
        seed: Seed of all randomness.
        draws: How often a stochastic defense is drawn for a gradient.
        precision: The network's arithmetic while it is attacked.
    """

    attack: str
    threat: str
    defense: str
    seed: int
    draws: int = 1
    precision: str = FLOAT32

    @property
    def group_size(self) -> int:
        """How many samples the attack gets at once: all of them."""
        return len(self.ids)

    @property
    def positions(self) -> range:
        """Positions of the samples to which the attack is fitted."""
        return range(len(self.ids))

    @property
    def components(self) -> dict[str, str]:
        """The specs of the components that it runs, by axis."""
        return _used(dataset=self.dataset, model=self.model, attack=self.attack, defense=self.defense)

    def is_done(self, store: Store) -> bool:
        """Whether the store holds the artefact."""
        return store.read_artefact(digest_of(self.key_inputs)) is not None

    def run(self, workspace: TaskWorkspace) -> None:
        """Fits the attack."""
        workspace.fit(self)


@dataclasses.dataclass(frozen=True, slots=True)
class DefenseFitTask(_SampleTask):
    """Fit a part of a defense to data in its place in front of a model.

    Attributes:
        defense: The spec of the whole chain.
        part: The index of the part.
        seed: Seed of all randomness.
    """

    defense: str
    part: int
    seed: int
    draws: ClassVar[int] = 1
    precision: ClassVar[str] = FLOAT32
    group_size: ClassVar[int | None] = None

    @property
    def components(self) -> dict[str, str]:
        """The specs of the components that it runs, by axis."""
        return {"dataset": self.dataset, "model": self.model, "defense": self.defense}

    def is_done(self, store: Store) -> bool:
        """Whether the store holds the artefact."""
        return store.read_artefact(digest_of(self.key_inputs)) is not None

    def run(self, workspace: TaskWorkspace) -> None:
        """Fits the part."""
        workspace.fit_defense(self)


@dataclasses.dataclass(frozen=True, slots=True)
class CraftTask(_SampleTask):
    """Make one chunk of adversarial images, or a part of it.

    Attributes:
        attack: The attack's spec.
        threat: The threat as far as the images depend on it: ``adaptive``, or else ``oblivious``.
        defense: The defense's spec; empty if the attack does not see it.
        seed: Seed of all randomness.
        draws: How often a stochastic defense is drawn for a gradient.
        precision: The network's arithmetic while it is attacked.
        part: The range of samples to attack, as positions (start, stop) in the chunk; None for all.
        group_size: How many samples the attack gets at once; None for any number.
        artefact: The key of what the attack has fitted, or the digest of its file; empty if it fits nothing.
        max_queries: The largest number of forwards and of backwards of a sample that count; None for any.
    """

    attack: str
    threat: str
    defense: str
    seed: int
    draws: int = 1
    precision: str = FLOAT32
    part: tuple[int, int] | None = None
    group_size: int | None = None
    artefact: str = ""
    max_queries: int | None = None

    @property
    def positions(self) -> range:
        """Positions in the chunk of the samples to attack."""
        return range(*(self.part or (0, len(self.ids))))

    @property
    def samples(self) -> int:
        """How many samples the task processes."""
        return len(self.positions)

    @property
    def components(self) -> dict[str, str]:
        """The specs of the components that it runs, by axis."""
        return _used(dataset=self.dataset, model=self.model, attack=self.attack, defense=self.defense)

    @property
    def claim(self) -> str:
        """The name under which a run claims this work, so that no other run does it meanwhile."""
        return f"{digest_of(self.key_inputs)}{self.part or ''}"

    def is_done(self, store: Store) -> bool:
        """Whether the store holds the part or the whole chunk."""
        key = digest_of(self.key_inputs)
        if self.part is not None and store.read_tensors(key, self.part) is not None:
            return True
        return store.read_tensors(key) is not None

    def run(self, workspace: TaskWorkspace) -> None:
        """Makes the images."""
        workspace.craft(self)


@dataclasses.dataclass(frozen=True, slots=True)
class JoinTask:
    """Join the parts of a chunk.

    Attributes:
        key_inputs: What the chunk's key is the digest of.
        parts: Its parts, in order.
    """

    key_inputs: dict[str, Any]
    parts: tuple[tuple[int, int], ...]
    samples: ClassVar[int] = 0
    seed: ClassVar[int] = 0
    draws: ClassVar[int] = 1
    precision: ClassVar[str] = FLOAT32
    group_size: ClassVar[int | None] = None

    @property
    def components(self) -> dict[str, str]:
        """None: joining runs no component."""
        return {}

    @property
    def claim(self) -> str:
        """The name under which a run claims this work."""
        return digest_of(self.key_inputs)

    def is_done(self, store: Store) -> bool:
        """Whether the store holds the whole chunk."""
        return store.read_tensors(digest_of(self.key_inputs)) is not None

    def run(self, workspace: TaskWorkspace) -> None:
        """Joins the parts."""
        workspace.join(self)


@dataclasses.dataclass(frozen=True, slots=True)
class CleanTask(_SampleTask):
    """Predict the clean images through a defense, a stochastic one ``draws`` times."""

    defense: str
    seed: int
    draws: int = 1
    precision: ClassVar[str] = FLOAT32
    group_size: ClassVar[int | None] = None

    @property
    def components(self) -> dict[str, str]:
        """The specs of the components that it runs, by axis."""
        return _used(dataset=self.dataset, model=self.model, defense=self.defense)

    def is_done(self, store: Store) -> bool:
        """Whether the store holds the predictions."""
        return _is_stored(store, "clean", self.key_inputs)

    def run(self, workspace: TaskWorkspace) -> None:
        """Predicts the images."""
        workspace.predict_clean(self)


@dataclasses.dataclass(frozen=True, slots=True)
class ScoreTask:
    """Predict adversarial images through a defense, a stochastic one ``draws`` times, and write the cell.

    Attributes:
        specs: The full specs of the cell's five coordinates.
        chunks: The keys of its adversarial images, each with the samples in that chunk.
        clean: The key of the defended model's predictions on clean images.
        seed: Seed of all randomness.
        draws: How often a stochastic defense is drawn.
    """

    specs: dict[str, str]
    chunks: tuple[tuple[str, tuple[int, ...]], ...]
    clean: str
    seed: int
    draws: int = 1
    precision: ClassVar[str] = FLOAT32
    group_size: ClassVar[int | None] = None

    @property
    def key_inputs(self) -> dict[str, Any]:
        """What the cell's key is the digest of."""
        return cell_key_inputs([key for key, _ in self.chunks], self.clean, self.specs["threat"])

    @property
    def samples(self) -> int:
        """How many samples the task processes."""
        return sum(len(ids) for _, ids in self.chunks)

    @property
    def components(self) -> dict[str, str]:
        """The specs of the components that it runs, by axis: the attack has run before."""
        return _used(dataset=self.specs["dataset"], model=self.specs["model"], defense=self.specs["defense"])

    @property
    def claim(self) -> str:
        """The name under which a run claims this work."""
        return digest_of(self.key_inputs)

    def is_done(self, store: Store) -> bool:
        """Whether the store holds the cell, and not a failure."""
        return _is_stored(store, "cells", self.key_inputs)

    def run(self, workspace: TaskWorkspace) -> None:
        """Scores the cell."""
        workspace.score(self)


def batch_step(batch_size: int, group_size: int | None) -> int:
    """How many samples a part of a chunk has: at most the batch size, but whole groups, and at least one of these."""
    return batch_size if group_size is None else max(1, batch_size // group_size) * group_size


@dataclasses.dataclass(frozen=True, slots=True)
class CertifyTask(_SampleTask):
    """Certify the answers of a defended model for some samples."""

    defense: str
    seed: int
    draws: ClassVar[int] = 1
    precision: ClassVar[str] = FLOAT32
    group_size: ClassVar[int | None] = None

    @property
    def components(self) -> dict[str, str]:
        """The specs of the components that it runs, by axis."""
        return _used(dataset=self.dataset, model=self.model, defense=self.defense)

    def is_done(self, store: Store) -> bool:
        """Whether the store holds the certificates, and not a failure."""
        return _is_stored(store, "certificates", self.key_inputs)

    def run(self, workspace: TaskWorkspace) -> None:
        """Certifies the samples."""
        workspace.certify(self)


Task = FitTask | DefenseFitTask | CraftTask | JoinTask | CleanTask | ScoreTask | CertifyTask


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended.

    Attributes:
        seconds: How long it took.
        error: Why it failed; empty if it succeeded.
        traceback: Where it failed.
        skipped: Whether ``error`` is the reason why the cells that need the task are skipped, and not a failure.
        busy: Whether another run is doing the same work, so that nothing was done.
        culprit: The axis (such as ``defense``) and the spec in the task of the component that changed the process, and
            must not be used again; None if there is none.
        batch_size: The batch size that was used, if the requested one needed more memory than there is.
    """

    seconds: float
    error: str = ""
    traceback: str = ""
    busy: bool = False
    batch_size: int | None = None
    culprit: tuple[str, str] | None = None
    skipped: bool = False


def _used(**specs: str) -> dict[str, str]:
    return {axis: spec for axis, spec in specs.items() if spec}


def _is_stored(store: Store, kind: str, key_inputs: dict[str, Any]) -> bool:
    record = store.read_record(kind, digest_of(key_inputs), arrays=True)
    return record is not None and record.get("status", "ok") == "ok"
