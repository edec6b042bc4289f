"""Components to cells: the full Cartesian product, with the keys under which its results are stored."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from advbench.api import Attack, Component, Dataset, DataSources, Model
from advbench.discovery import Registry
from advbench.matrix.keys import Base, cell_material
from advbench.matrix.threat import Threat, select_threats
from advbench.specs import Chain, Suite, full_spec, select, select_chains, short_spec
from advbench.store import digest_of

__all__ = ["CHUNK", "Axes", "Cell", "Chunk", "Plan", "build_plan", "pick_ids", "resolve_axes"]

CHUNK = 500
"""How many samples one stored file of adversarial images holds: what a kill costs at most, and what keeps
memory from growing with the number of samples."""


@dataclasses.dataclass(frozen=True)
class Axes:
    """The axes of a matrix, resolved and checked."""

    datasets: tuple[Dataset, ...]
    models: tuple[Model, ...]
    attacks: tuple[Attack, ...]
    defenses: tuple[Chain, ...]
    threats: tuple[Threat, ...]
    limit: int | None
    seed: int


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Adversarial images of one attack on some of the samples."""

    material: dict[str, Any]
    key: str
    ids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One (dataset, model, attack, threat, defense): the unit of result.

    Attributes:
        skipped: Why it cannot be run, such as shapes that do not fit; empty otherwise, and then the rest is set.
        key: Where its result is stored.
        material: What the key is the digest of.
        ids: The samples it is measured on.
        chunks: The adversarial images that it is scored on.
        clean_material: Material of the defended model's predictions on clean images.
        clean_key: Where those are stored.
    """

    dataset: Dataset
    model: Model
    attack: Attack
    threat: Threat
    defense: Chain
    seed: int
    skipped: str = ""
    key: str = ""
    material: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    ids: tuple[int, ...] = dataclasses.field(default=(), repr=False)
    chunks: tuple[Chunk, ...] = dataclasses.field(default=(), repr=False)
    clean_material: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    clean_key: str = ""

    def label(self) -> str:
        """Its five coordinates for people, parameters at their defaults left out."""
        parts = (self.dataset, self.model, self.attack)
        return f"{' '.join(_short(part) for part in parts)} {self.threat.name} {_short(self.defense)}"

    def specs(self) -> dict[str, str]:
        """The full specs of its five coordinates, as in records and exports."""
        return {
            "dataset": _full(self.dataset),
            "model": _full(self.model),
            "attack": _full(self.attack),
            "threat": self.threat.name,
            "defense": _full(self.defense),
        }


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cells of a run, in the order of its axes."""

    axes: Axes
    cells: tuple[Cell, ...]

    @property
    def run_id(self) -> str:
        """What identifies the run: the same cells are the same run, whenever and however often it is started."""
        return digest_of([cell.key or cell.specs() for cell in self.cells])[:12]


_full = functools.lru_cache(maxsize=None)(full_spec)
_short = functools.lru_cache(maxsize=None)(short_spec)


def resolve_axes(registry: Registry, suite: Suite) -> Axes:
    """Turns a suite's specs into components.

    Raises:
        UsageError: A spec is wrong, an axis is empty or holds the same thing twice.
    """
    threats = select_threats(suite.threats)
    return Axes(
        datasets=tuple(_of(Dataset, select(registry, "datasets", suite.datasets))),
        models=tuple(_of(Model, select(registry, "models", suite.models))),
        attacks=tuple(_of(Attack, select(registry, "attacks", suite.attacks))),
        defenses=tuple(select_chains(registry, suite.defenses)),
        threats=tuple(threats),
        limit=suite.limit,
        seed=suite.seed,
    )


def build_plan(axes: Axes, sources: DataSources, device: str) -> Plan:
    """Builds every cell with its keys; reads no images and no weights.

    Raises:
        DataError: A dataset's digest cannot be told.
        WeightsError: A model's or defense's weights are missing.
    """
    return Plan(axes, tuple(_cells(axes, sources, device)))


def pick_ids(dataset: Dataset, limit: int | None, seed: int) -> tuple[int, ...]:
    """A reproducible random subset of the sample ids, ascending; a smaller limit picks a part of a larger one's."""
    ids = np.asarray(dataset.ids(), dtype=np.int64)
    if limit is None or limit >= len(ids):
        return tuple(ids.tolist())
    key = hashlib.sha256(f"{seed}\0subset\0{dataset.name}".encode()).digest()[:16]
    order = np.random.Generator(np.random.Philox(key=np.frombuffer(key, dtype="<u8"))).random(len(ids))
    chosen = np.argsort(order, kind="stable")[:limit]
    return tuple(np.sort(ids[chosen]).tolist())


def _cells(axes: Axes, sources: DataSources, device: str) -> Iterator[Cell]:
    for dataset in axes.datasets:
        ids = pick_ids(dataset, axes.limit, axes.seed)
        for model in axes.models:
            misfit = _misfit(dataset, model)
            if misfit:
                for attack in axes.attacks:
                    for threat in axes.threats:
                        for defense in axes.defenses:
                            yield Cell(dataset, model, attack, threat, defense, axes.seed, skipped=misfit)
                continue
            base = Base.of(dataset, sources, model, axes.seed, device)
            yield from _pair_cells(axes, dataset, model, base, ids)


def _pair_cells(axes: Axes, dataset: Dataset, model: Model, base: Base, ids: tuple[int, ...]) -> Iterator[Cell]:
    clean = [base.clean(ids, defense) for defense in axes.defenses]
    clean_keys = [digest_of(material) for material in clean]
    for attack in axes.attacks:
        for threat in axes.threats:
            shared = None if threat.sees_defense else _chunks(base, ids, attack, threat, None)
            for defense, clean_material, clean_key in zip(axes.defenses, clean, clean_keys, strict=True):
                chunks = shared or _chunks(base, ids, attack, threat, defense)
                material = cell_material([chunk.key for chunk in chunks], clean_key)
                yield Cell(
                    dataset,
                    model,
                    attack,
                    threat,
                    defense,
                    axes.seed,
                    key=digest_of(material),
                    material=material,
                    ids=ids,
                    chunks=chunks,
                    clean_material=clean_material,
                    clean_key=clean_key,
                )


def _chunks(
    base: Base, ids: tuple[int, ...], attack: Attack, threat: Threat, defense: Chain | None
) -> tuple[Chunk, ...]:
    parts = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    materials = [base.adversarial(part, attack, threat.name, defense) for part in parts]
    return tuple(Chunk(material, digest_of(material), part) for material, part in zip(materials, parts, strict=True))


def _misfit(dataset: Dataset, model: Model) -> str:
    """Why a model cannot classify a dataset, or nothing."""
    if dataset.image_shape != model.image_shape:
        return f"{model.name} takes images of {model.image_shape}, {dataset.name} has {dataset.image_shape}"
    if dataset.num_classes != model.num_classes:
        return f"{model.name} knows {model.num_classes} classes, {dataset.name} has {dataset.num_classes}"
    return ""


def _of(base: type[Any], components: Sequence[Component]) -> list[Any]:
    """Narrows components that the registry has checked to their kind."""
    assert all(isinstance(component, base) for component in components)
    return list(components)
