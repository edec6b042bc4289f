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
from advbench.matrix.threat import OBLIVIOUS, Threat, select_threats
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
    eot: int = 10
    score_draws: int = 1
    surrogate: Model | None = None


@dataclasses.dataclass(frozen=True)
class Aim:
    """What adversarial images are crafted on.

    Attributes:
        model: The model that is attacked, which under the transfer threat is not the one that is scored.
        threat: The threat as far as the images depend on it: ``adaptive``, or else ``oblivious``.
        defense: The defense that the attack sees, or None.
        draws: How often a stochastic one is drawn for a gradient.
    """

    model: Model
    threat: str
    defense: Chain | None = None
    draws: int = 1


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Adversarial images of one attack on some of the samples."""

    material: dict[str, Any]
    key: str
    ids: tuple[int, ...]
    aim: Aim


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
    material: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    ids: tuple[int, ...] = dataclasses.field(default=(), repr=False)
    chunks: tuple[Chunk, ...] = dataclasses.field(default=(), repr=False)
    clean_material: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    clean_key: str = ""
    draws: int = 1
    identity: bool = False
    stochastic: bool = False

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
        surrogate = _surrogate(registry, suite.surrogate, threats)
        return Axes(
            datasets=tuple(_of(Dataset, select(registry, "datasets", part.datasets))),
            models=tuple(_of(Model, select(registry, "models", part.models))),
            attacks=tuple(_of(Attack, select(registry, "attacks", part.attacks))),
            defenses=tuple(select_chains(registry, part.defenses)),
            threats=tuple(threats),
            limit=suite.limit,
            seed=suite.seed,
            eot=suite.eot,
            score_draws=suite.score_draws,
            surrogate=surrogate,
        )
    except UsageError as error:
        if not suite.parts:
            raise
        which = ", ".join(part.datasets) or "no dataset"
        raise UsageError(f"suite {suite.name!r}, the part of {which}: {error}") from error


def _surrogate(registry: Registry, spec: str | None, threats: Sequence[Threat]) -> Model | None:
    """The model that the transfer threat attacks; None without that threat."""
    if all(threat.sees_model for threat in threats):
        if spec is not None:
            raise UsageError(f"--surrogate {spec}: only the threat 'transfer' has one; add it to --threats")
        return None
    if spec is None:
        raise UsageError("threat 'transfer' needs the model that images are crafted on; give --surrogate MODEL")
    models = select(registry, "models", [spec])
    if len(models) != 1:
        raise UsageError(f"--surrogate {spec}: give one model")
    return _of(Model, models)[0]  # type: ignore[no-any-return]


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
            bases = _attempt(partial(_bases, axes, dataset, model, sources, device))
            if misfit:
                yield from pair.without_keys(skipped=misfit)
            elif isinstance(bases, str):
                yield from pair.without_keys(failed=bases)
            else:
                yield from pair.cells(*bases)


def _bases(axes: Axes, dataset: Dataset, model: Model, sources: DataSources, device: str) -> tuple[Base, Base | None]:
    """What the keys of a dataset and model share, and those of images crafted on the surrogate where there is one."""
    digest = dataset.digest(sources)
    base = Base.of(dataset, digest, model, axes.seed, device)
    return base, None if axes.surrogate is None else Base.of(dataset, digest, axes.surrogate, axes.seed, device)


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

    def cells(self, base: Base, other: Base | None) -> Iterator[Cell]:
        """Cells with their keys; where a defense does not fit they are skipped, where a component raises failed.

        Args:
            base: What all keys share.
            other: The same of the surrogate, where there is one.
        """
        refused = {defense: _refusal(defense, self.dataset.image_shape) for defense in self.axes.defenses}
        fitting = [defense for defense in self.axes.defenses if not refused[defense]]
        nature = {defense: _attempt(partial(_nature, defense)) for defense in fitting}
        clean = {defense: _attempt(partial(self._clean, base, defense)) for defense in fitting}
        for attack, threat in itertools.product(self.axes.attacks, self.axes.threats):
            kind = _attempt(partial(_kind, attack))
            unfit = "" if threat.sees_model else self._unfit_surrogate()
            made: dict[Aim, Any] = {}
            for defense in self.axes.defenses:
                reason = refused[defense] or ({"skipped": unfit} if unfit else {})
                if reason:
                    yield self._cell(attack, threat, defense, **reason)
                    continue
                if isinstance(nature[defense], str):
                    yield self._cell(attack, threat, defense, failed=nature[defense])
                    continue
                aim = self._aim(threat, defense)
                source = base if threat.sees_model or other is None else other
                if aim not in made:
                    made[aim] = _attempt(partial(_chunks, source, self.ids, attack, aim))
                faults = [found for found in (kind, made[aim], clean[defense]) if isinstance(found, str)]
                if faults:
                    yield self._cell(attack, threat, defense, failed=faults[0])
                else:
                    keys = {**_keys(made[aim], clean[defense], threat), "draws": self._draws(defense)}
                    yield self._cell(attack, threat, defense, **kind, **keys, **nature[defense])

    def _aim(self, threat: Threat, defense: Chain) -> Aim:
        """What the images of a threat are crafted on; the undefended model is the same under any that sees it."""
        if not threat.sees_model:
            assert self.axes.surrogate is not None
            return Aim(self.axes.surrogate, OBLIVIOUS.name)
        if not threat.sees_defense or defense.identity:
            return Aim(self.model, OBLIVIOUS.name)
        return Aim(self.model, threat.name, defense, self.axes.eot if defense.stochastic else 1)

    def _draws(self, defense: Chain) -> int:
        return self.axes.score_draws if defense.stochastic else 1

    def _clean(self, base: Base, defense: Chain) -> dict[str, Any]:
        return base.clean(self.ids, defense, self._draws(defense))

    def _unfit_surrogate(self) -> str:
        """Why images cannot be crafted on the surrogate, or nothing."""
        assert self.axes.surrogate is not None
        if self.axes.surrogate == self.model:
            return f"the surrogate {_short(self.model)} is the model itself, which is the threat 'oblivious'"
        return _misfit(self.dataset, self.axes.surrogate)

    def _cell(self, attack: Attack, threat: Threat, defense: Chain, **rest: Any) -> Cell:
        return Cell(self.dataset, self.model, attack, threat, defense, self.axes.seed, ids=self.ids, **rest)


def _nature(defense: Chain) -> dict[str, bool]:
    """What a cell says of its defense."""
    return {"identity": defense.identity, "stochastic": defense.stochastic}


def _kind(attack: Attack) -> dict[str, Any]:
    """What a cell says of its attack's kind."""
    return {"budget": check_budget(attack), "norm": check_norm(attack)}


def _keys(chunks: tuple[Chunk, ...], clean_material: dict[str, Any], threat: Threat) -> dict[str, Any]:
    """What a cell is made of and stored under."""
    clean_key = digest_of(clean_material)
    material = cell_material([chunk.key for chunk in chunks], clean_key, threat.name)
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


def _chunks(base: Base, ids: tuple[int, ...], attack: Attack, aim: Aim) -> tuple[Chunk, ...]:
    parts = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
    materials = [base.adversarial(part, attack, aim.threat, aim.defense, aim.draws) for part in parts]
    return tuple(
        Chunk(material, digest_of(material), part, aim) for material, part in zip(materials, parts, strict=True)
    )


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
