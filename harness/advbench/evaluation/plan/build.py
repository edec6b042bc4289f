"""Builds a plan: the cells of every part of a suite."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

from advbench.api import Attack, Component, Dataset, DataSources, Model
from advbench.discovery.identity import clear_digest_cache
from advbench.discovery.registry import Registry
from advbench.errors import UsageError
from advbench.evaluation.plan.behaviours import BehaviourIds
from advbench.evaluation.plan.cell_product import build_cells
from advbench.evaluation.plan.cells import Axes, Cell, DefenseFit, Fit
from advbench.evaluation.plan.certificates import Certification, certifications_of
from advbench.evaluation.plan.samples import pick_ids
from advbench.evaluation.plan.threats import Threat, select_threats
from advbench.option_names import option
from advbench.specs import AXES, Part, Suite, select, select_aliases, select_chains
from advbench.store import digest_of

__all__ = ["Plan", "build_plan", "resolve_axes"]

MOST_CELLS = 1_000_000
"""The largest number of cells of a run."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The cells of a run.

    Attributes:
        parts: The axes of each part, at least one; all have the same seed.
        cells: The cells of all parts, each part in the order of its axes; no cell occurs twice.
    """

    parts: tuple[Axes, ...]
    cells: tuple[Cell, ...]

    @property
    def seed(self) -> int:
        """The seed of the subset and of all randomness."""
        return self.parts[0].seed

    @functools.cached_property
    def fits(self) -> tuple[Fit | DefenseFit, ...]:
        """What is fitted, each once."""
        fits: dict[str, Fit | DefenseFit] = {}
        for cell in self.cells:
            fits |= {chunk.fit.key: chunk.fit for chunk in cell.chunks if chunk.fit is not None}
            fits |= {fit.key: fit for fit in cell.defense_fits if cell.key}
        return tuple(fits.values())

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """The datasets of the cells that can be run, and those of their fits, each once."""
        return tuple(
            dict.fromkeys([*(cell.dataset for cell in self.cells if cell.key), *(fit.dataset for fit in self.fits)])
        )

    @functools.cached_property
    def certifications(self) -> tuple[Certification, ...]:
        """What certifies its answers; nothing unless certificates were asked for."""
        return tuple(certifications_of(self.cells)) if self.parts[0].certify else ()

    @property
    def run_id(self) -> str:
        """The digest of the cells' keys: the same command is the same run, so that repeating it resumes it."""
        certificates = [piece.key for one in self.certifications for piece in one.pieces]
        return digest_of(
            [*(cell.key or {**cell.specs(), **cell.named_surrogate()} for cell in self.cells), *certificates]
        )[:12]


def resolve_axes(registry: Registry, suite: Suite) -> tuple[Axes, ...]:
    """Turns a suite's specs into components, part by part.

    Raises:
        UsageError: A spec is wrong, an axis is empty or contains a component twice, or there are more than
            :data:`MOST_CELLS` cells. For a suite with parts, the message on a spec or an axis names the part.
    """
    parts = tuple(_resolve_part(registry, suite, part) for part in suite.products)
    _check_aliases(suite, parts)
    count = sum(
        math.prod(map(len, (axes.datasets, axes.models, axes.attacks, axes.attackers, axes.defenses))) for axes in parts
    )
    if count > MOST_CELLS:
        raise UsageError(f"{count:,} cells are more than the {MOST_CELLS:,} that a run may have; split it into several")
    return parts


def _check_aliases(suite: Suite, parts: Sequence[Axes]) -> None:
    """Checks that an alias stands for one component in all parts: boards and pages show the parts together."""
    known: dict[tuple[str, str], str] = {}
    for alias in (alias for axes in parts for alias in axes.aliases):
        other = known.setdefault((alias.axis, alias.name), alias.spec)
        if other != alias.spec:
            raise UsageError(
                f"suite {suite.name!r}: {alias.axis}s: {alias.name!r} stands for {other!r} in one part and for "
                f"{alias.spec!r} in another; use another alias"
            )


def _resolve_part(registry: Registry, suite: Suite, part: Part) -> Axes:
    try:
        threats = select_threats(part.threats)
        surrogates = _surrogates(registry, suite.surrogate, threats)
        return Axes(
            datasets=tuple(_narrow(Dataset, select(registry, "datasets", part.datasets))),
            models=tuple(_narrow(Model, select(registry, "models", part.models))),
            attacks=tuple(_narrow(Attack, select(registry, "attacks", part.attacks))),
            defenses=tuple(select_chains(registry, part.defenses)),
            threats=tuple(threats),
            limit=suite.limit if part.limit is None else part.limit,
            seed=suite.seed,
            eot=suite.eot if part.eot is None else part.eot,
            score_draws=suite.score_draws if part.score_draws is None else part.score_draws,
            certify=suite.certify,
            radii=suite.radii,
            max_queries=suite.max_queries,
            surrogates=surrogates,
            precision=suite.precision,
            fit_samples=suite.fit_samples,
            fit_data=_fit_data(registry, suite.fit_data),
            aliases=tuple(
                alias
                for kind in AXES
                if kind != "threats"
                for alias in select_aliases(registry, kind, _aliased(suite, part, kind))
            ),
        )
    except UsageError as error:
        if not suite.parts:
            raise
        datasets = ", ".join(part.datasets) or "no dataset"
        raise UsageError(f"suite {suite.name!r}, the part of {datasets}: {error}") from error


def _aliased(suite: Suite, part: Part, kind: str) -> tuple[str, ...]:
    """The specs of an axis that may have aliases: for the models, those of the surrogates, too."""
    texts: tuple[str, ...] = getattr(part, kind)
    return (*(spec for spec in suite.surrogate if spec not in texts), *texts) if kind == "models" else texts


def _surrogates(registry: Registry, specs: Sequence[str], threats: Sequence[Threat]) -> tuple[Model, ...]:
    """The models that are attacked under the transfer threat; empty without that threat."""
    if all(threat.sees_model for threat in threats):
        if specs:
            raise UsageError(
                f"{option('surrogate', *specs)}: only the threat 'transfer' has "
                f"{'one' if len(specs) == 1 else 'them'}; add it to {option('threats')}"
            )
        return ()
    if not specs:
        raise UsageError(
            f"threat 'transfer' needs the model that images are crafted on; give {option('surrogate', 'MODEL')}"
        )
    return tuple(_narrow(Model, select(registry, "models", specs, named=option("surrogate"))))


def _fit_data(registry: Registry, spec: str | None) -> Dataset | None:
    """The dataset to which components are fitted; None for that of the run."""
    if spec is None:
        return None
    datasets = select(registry, "datasets", [spec])
    if len(datasets) != 1:
        raise UsageError(f"{option('fit_data', spec)}: give one dataset")
    return _narrow(Dataset, datasets)[0]  # type: ignore[no-any-return]


def build_plan(
    parts: Sequence[Axes], sources: DataSources, device: str, behaviours: BehaviourIds | None = None
) -> Plan:
    """Builds every cell of every part with its keys; a cell that occurs in several parts is built once.

    Args:
        parts: The axes of each part.
        sources: Where datasets may look.
        device: The device that computes the cells.
        behaviours: Identifies the behaviour of models, defenses and attacks, which is a part of their keys; None to
            leave it out, and load neither images nor weights.

    Raises:
        DataError: A dataset's digest cannot be computed.
        WeightsError: A model's or defense's weights are missing.
    """
    clear_digest_cache()  # files may have changed since this process last planned
    cells: dict[tuple[str, ...], Cell] = {}
    for axes in parts:
        for dataset in axes.datasets:
            ids = pick_ids(dataset, axes.limit, axes.seed)
            for model in axes.models:
                for cell in build_cells(
                    axes, dataset, model, ids, sources=sources, device=device, behaviours=behaviours
                ):
                    aliased = dataclasses.replace(cell, aliases=axes.aliases) if axes.aliases else cell
                    cells.setdefault(cell.coordinates, aliased)
    return Plan(tuple(parts), tuple(cells.values()))


def _narrow(base: type[Any], components: Sequence[Component]) -> list[Any]:
    """Narrows the type of components, which the registry has checked."""
    assert all(isinstance(component, base) for component in components)
    return list(components)
