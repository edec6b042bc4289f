"""Components to cells: Cartesian products, with the keys under which their results are stored."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from advbench.api import Attack, Budget, Component, Dataset, DataSources, Model, Norm
from advbench.discovery import Registry
from advbench.errors import UsageError, describe
from advbench.matrix.contracts import check_budget, check_norm
from advbench.matrix.keys import Base, cell_material
from advbench.matrix.threat import Threat, select_threats
from advbench.specs import Chain, Part, Suite, full_spec, select, select_chains, short_spec
from advbench.store import digest_of

__all__ = ["CHUNK", "Axes", "Cell", "Chunk", "Plan", "build_plan", "pick_ids", "resolve_axes"]

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
        skipped: Why it cannot be run, such as shapes that do not fit; empty otherwise.
        failed: What a component raised when it was asked what its key is made of; empty otherwise. Where both
            are empty, the rest is set.
        budget: The attack's budget, or None for a minimal attack.
        norm: The norm of the budget, or that a minimal attack keeps small; None where it names none.
        key: Where its result is stored.
        material: What the key is the digest of.
        ids: The samples it is to be measured on.
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
    failed: str = ""
    budget: Budget | None = None
    norm: Norm | None = None
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
    """The cells of a run.

    Attributes:
        parts: The axes of each part, at least one; limit and seed are the same in all.
        cells: The parts' products, one after the other, each in the order of its axes; none twice.
    """

    parts: tuple[Axes, ...]
    cells: tuple[Cell, ...]

    @property
    def limit(self) -> int | None:
        """How many random samples of each dataset; None for all."""
        return self.parts[0].limit

    @property
    def seed(self) -> int:
        """Seed of the subset and of all randomness."""
        return self.parts[0].seed

    @property
    def run_id(self) -> str:
        """What identifies the run: the same cells are the same run, whenever and however often it is started."""
        return digest_of([cell.key or cell.specs() for cell in self.cells])[:12]


_full = functools.lru_cache(maxsize=None)(full_spec)
_short = functools.lru_cache(maxsize=None)(short_spec)


def resolve_axes(registry: Registry, suite: Suite) -> tuple[Axes, ...]:
    """Turns a suite's specs into components, part by part.

    Raises:
        UsageError: A spec is wrong, an axis is empty or holds the same thing twice; of a suite with parts, the
            message says in which.
    """
    return tuple(_resolve_part(registry, suite, part) for part in suite.products)


def _resolve_part(registry: Registry, suite: Suite, part: Part) -> Axes:
    try:
        threats = select_threats(part.threats)
        return Axes(
            datasets=tuple(_of(Dataset, select(registry, "datasets", part.datasets))),
            models=tuple(_of(Model, select(registry, "models", part.models))),
            attacks=tuple(_of(Attack, select(registry, "attacks", part.attacks))),
            defenses=tuple(select_chains(registry, part.defenses)),
            threats=tuple(threats),
            limit=suite.limit,
            seed=suite.seed,
        )
    except UsageError as error:
        if not suite.parts:
            raise
        which = ", ".join(part.datasets) or "no dataset"
        raise UsageError(f"suite {suite.name!r}, the part of {which}: {error}") from error


def build_plan(parts: Sequence[Axes], sources: DataSources, device: str) -> Plan:
    """Builds every cell of every part with its keys; a cell of several parts is one. Reads no images and no weights.

    Raises:
        DataError: A dataset's digest cannot be told.
        WeightsError: A model's or defense's weights are missing.
    """
    cells: dict[tuple[str, ...], Cell] = {}
    for axes in parts:
        for cell in _cells(axes, sources, device):
            cells.setdefault(tuple(cell.specs().values()), cell)
    return Plan(tuple(parts), tuple(cells.values()))


def pick_ids(dataset: Dataset, limit: int | None, seed: int) -> tuple[int, ...]:
    """A reproducible random subset of the sample ids, ascending; a smaller limit picks a part of a larger one's."""
    try:
        ids = np.asarray(dataset.ids(), dtype=np.int64)
    except (Exception, SystemExit) as error:
        raise UsageError(f"dataset {dataset.name!r} cannot tell its sample ids: {describe(error)}") from error
    if not len(ids):
        raise UsageError(f"dataset {dataset.name!r} has no samples; pick another")
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
            pair = _Pair(axes, dataset, model, ids)
            misfit = _misfit(dataset, model)
            base = _attempt(lambda: Base.of(dataset, dataset.digest(sources), model, axes.seed, device))  # noqa: B023
            if misfit:
                yield from pair.without_keys(skipped=misfit)
            elif isinstance(base, str):
                yield from pair.without_keys(failed=base)
            else:
                yield from pair.cells(base)


@dataclasses.dataclass(frozen=True)
class _Pair:
    """The cells of one dataset and model."""

    axes: Axes
    dataset: Dataset
    model: Model
    ids: tuple[int, ...]

    def without_keys(self, *, skipped: str = "", failed: str = "") -> Iterator[Cell]:
        """Cells none of which can be run."""
        for attack, threat, defense in itertools.product(self.axes.attacks, self.axes.threats, self.axes.defenses):
            yield self._cell(attack, threat, defense, skipped=skipped, failed=failed)

    def cells(self, base: Base) -> Iterator[Cell]:
        """Cells with their keys; where a defense does not fit they are skipped, where a component raises failed."""
        refused = {defense: _refusal(defense, self.dataset.image_shape) for defense in self.axes.defenses}
        fitting = [defense for defense in self.axes.defenses if not refused[defense]]
        clean = {defense: _attempt(partial(base.clean, self.ids, defense)) for defense in fitting}
        for attack, threat in itertools.product(self.axes.attacks, self.axes.threats):
            aim = _attempt(partial(_aim, attack))
            make = partial(_chunks, base, self.ids, attack, threat)
            shared = None if threat.sees_defense else _attempt(partial(make, None))
            for defense in self.axes.defenses:
                if refused[defense]:
                    yield self._cell(attack, threat, defense, **refused[defense])
                    continue
                material = clean[defense]
                chunks = shared if shared is not None else _attempt(partial(make, defense))
                faults = [found for found in (aim, chunks, material) if isinstance(found, str)]
                if faults:
                    yield self._cell(attack, threat, defense, failed=faults[0])
                else:
                    yield self._cell(attack, threat, defense, **aim, **_keys(chunks, material))

    def _cell(self, attack: Attack, threat: Threat, defense: Chain, **rest: Any) -> Cell:
        return Cell(self.dataset, self.model, attack, threat, defense, self.axes.seed, ids=self.ids, **rest)


def _aim(attack: Attack) -> dict[str, Any]:
    """What a cell says of its attack's kind."""
    return {"budget": check_budget(attack), "norm": check_norm(attack)}


def _keys(chunks: tuple[Chunk, ...], clean_material: dict[str, Any]) -> dict[str, Any]:
    """What a cell is made of and stored under."""
    clean_key = digest_of(clean_material)
    material = cell_material([chunk.key for chunk in chunks], clean_key)
    return {
        "key": digest_of(material),
        "material": material,
        "chunks": chunks,
        "clean_material": clean_material,
        "clean_key": clean_key,
    }


def _attempt(ask: Callable[[], Any]) -> Any:
    """What a component answers, or in one line what it raises; what the user can mend goes up."""
    try:
        return ask()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        return describe(error)


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


def _refusal(defense: Chain, image_shape: tuple[int, int, int]) -> dict[str, str]:
    """Why a defense cannot take images of a shape, as its cells' ``skipped`` or ``failed``; empty where it can."""
    answer = _attempt(lambda: (defense.misfit(image_shape),))
    if isinstance(answer, str):
        return {"failed": answer}
    if not isinstance(answer[0], str):
        return {"failed": f"defense {_short(defense)!r} answers misfit() by {answer[0]!r}; expected a text"}
    reason = " ".join(answer[0].split())
    return {"skipped": reason} if reason else {}


def _of(base: type[Any], components: Sequence[Component]) -> list[Any]:
    """Narrows components that the registry has checked to their kind."""
    assert all(isinstance(component, base) for component in components)
    return list(components)
