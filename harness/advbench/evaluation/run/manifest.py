"""The manifest of a run: its cells, settings and versions, written before anything is computed."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from advbench._version import __version__
from advbench.api import AdaptiveView, Attack, Budget, Component, Dataset, PerturbationSet
from advbench.api.files import sha256_file
from advbench.api.goal import goal_of
from advbench.discovery.identity import code_digests, dependency_versions
from advbench.discovery.registry import Plugin, Registry
from advbench.evaluation.plan.build import Plan
from advbench.evaluation.plan.cells import Axes, Cell, display_name, full, short
from advbench.evaluation.plan.certificates import Certification
from advbench.evaluation.plan.keys import fitted_keys
from advbench.evaluation.plan.threats import NO_ATTACKER, Threat
from advbench.evaluation.run.planned_data import facts_of_datasets, samples_of
from advbench.evaluation.work.workspace import Environment, device_name
from advbench.specs import Chain
from advbench.store import SCHEMA

__all__ = ["make_manifest"]

T = TypeVar("T")

_LIBRARIES = ("torch", "numpy")


def make_manifest(
    plan: Plan,
    registry: Registry,
    environment: Environment,
    *,
    name: str,
    command: str,
    before: dict[str, Any] | None,
    doubled: Mapping[int, str] | None = None,
    more: Iterable[Cell] = (),
    networks: Iterable[str] = (),
    shown: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Makes the manifest of a run.

    Args:
        plan: Its cells.
        registry: Where its components come from.
        environment: The settings of its workers.
        name: The name that the user gives the run, else that of the suite, or ``custom``.
        command: The command line that starts it.
        before: The manifest of the same run from an earlier command, or None.
        doubled: Keys of the same cells with twice the steps, by position; those of an earlier command are kept.
        more: Those cells.
        networks: Keys of the behaviours that were observed for the plan.
        shown: How commands show the run by default: ``board`` has the ``rows`` and the ``reference`` of its
            leaderboards, and ``repeats``, if there are several seeds, the ``command`` and the ``runs`` of all.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    import torch  # here, since only runs need it

    return {
        "schema": SCHEMA,
        "run": plan.run_id,
        "name": name,
        "command": command,
        "folder": _working_folder(),
        "data_dir": None if environment.data_dir is None else str(environment.data_dir),
        "created": before["created"] if before else now,
        "updated": now,
        "threats": _described_threats(plan),
        **_settings(plan.parts[0]),
        **_fit_settings(plan),
        "device": device_name(environment.device) or environment.device,
        "threads": environment.threads or torch.get_num_threads(),
        "batch_size": environment.batch_size,
        "platform": platform.platform(terse=True),
        "versions": _versions(plan),
        "plugins": _plugins(plan, registry),
        "weights": _weights(plan),
        **_aliases(plan),
        **facts_of_datasets(plan),
        **samples_of(plan),
        "doubled": {
            **(before or {}).get("doubled", {}),
            **{str(position): key for position, key in (doubled or {}).items()},
        },
        "entries": _entries([*plan.cells, *more], plan.certifications, networks, before),
        **_certificates(plan),
        **(shown or {}),
        "cells": [_describe(cell) for cell in plan.cells],
    }


def _described_threats(plan: Plan) -> dict[str, dict[str, str]]:
    """The threats of a plan by name, with their settings."""
    return {
        threat.name: {
            "meaning": threat.meaning,
            "caveat": threat.caveat,
            "how": _threat_details(threat, axes, plan),
        }
        for axes in plan.parts
        for threat in _threats(axes, plan)
    }


def _settings(axes: Axes) -> dict[str, Any]:
    """What a suite sets besides the axes; limit and draws are those of its first part."""
    return {
        "seed": axes.seed,
        "eot": axes.eot,
        "score_draws": axes.score_draws,
        "max_queries": axes.max_queries,
        "surrogate": _surrogate(axes),
        "precision": axes.precision,
        "limit": axes.limit,
    }


def _surrogate(axes: Axes) -> str | list[str] | None:
    """The full spec of the surrogate; those of several as a list; None if there is none."""
    specs = list(map(full, axes.surrogates))
    return specs if len(specs) > 1 else specs[0] if specs else None


def _fit_settings(plan: Plan) -> dict[str, Any]:
    """The settings of fits, if anything is fitted: how many images, and of which dataset if not of the run's own."""
    data = plan.parts[0].fit_data
    return (
        {"fit_samples": plan.parts[0].fit_samples, "fit_data": None if data is None else full(data)}
        if plan.fits
        else {}
    )


def _certificates(plan: Plan) -> dict[str, Any]:
    """What certifies its answers, with the keys of its certificates, and the radii that are shown."""
    if not plan.parts[0].certify:
        return {}
    described = [
        {
            **one.specs(),
            "short": one.short,
            "norm": one.norm,
            "votes": one.votes,
            "keys": [piece.key for piece in one.pieces],
            "n": sum(len(piece.ids) for piece in one.pieces),
        }
        for one in plan.certifications
    ]
    return {"certificates": described, "radii": list(plan.parts[0].radii)}


def _entries(
    cells: Sequence[Cell],
    certifications: Sequence[Certification],
    networks: Iterable[str],
    before: Mapping[str, Any] | None,
) -> dict[str, list[str]]:
    """The keys of entries that the cells use, and those of an earlier command."""
    earlier = (before or {}).get("entries", {})
    adversarial = [chunk.key for cell in cells for chunk in cell.chunks]
    artefacts = [chunk.fit.key for cell in cells for chunk in cell.chunks if chunk.fit is not None]
    artefacts += [fit.key for cell in cells for fit in cell.defense_fits]
    clean = [cell.clean_key for cell in cells if cell.clean_key]
    certificates = [piece.key for one in certifications for piece in one.pieces]
    return {
        "certificates": list(dict.fromkeys([*certificates, *earlier.get("certificates", [])])),
        "adversarial": list(dict.fromkeys([*adversarial, *earlier.get("adversarial", [])])),
        "artefacts": list(dict.fromkeys([*artefacts, *earlier.get("artefacts", [])])),
        "clean": list(dict.fromkeys([*clean, *earlier.get("clean", [])])),
        "networks": list(dict.fromkeys([*sorted(networks), *earlier.get("networks", [])])),
    }


def _threats(axes: Axes, plan: Plan) -> list[Threat]:
    """The threats of a part, and that of corruptions if there are any."""
    return [*axes.threats, *([NO_ATTACKER] if any(cell.threat == NO_ATTACKER for cell in plan.cells) else [])]


def _threat_details(threat: Threat, axes: Axes, plan: Plan) -> str:
    """The settings of a threat: the surrogates, or the number of draws."""
    attacked = [chunk.target for cell in plan.cells if cell.threat == threat for chunk in cell.chunks[:1]]
    defenses = threat.sees_defense and any(cell.defense.stochastic for cell in plan.cells if cell.stochastic)
    models = any(target.model.stochastic for target in attacked)
    drawn = " and ".join(["defenses"] * defenses + ["models"] * models)
    efforts = {part.eot for part in plan.parts if threat in part.threats and _has_stochastic(part)} or {axes.eot}
    counts = " to ".join(dict.fromkeys(map(str, (min(efforts), max(efforts)))))
    details = [f"stochastic {drawn}: {counts} draw{'s' * (counts != '1')} for each gradient"] if drawn else []
    if not threat.sees_model:
        names = [display_name(surrogate, axes.aliases) for surrogate in axes.surrogates]
        details = [f"surrogate{'s' * (len(names) > 1)} {', '.join(names)}"] * bool(names) + details
    return "; ".join(details)


def _has_stochastic(axes: Axes) -> bool:
    return any(model.stochastic for model in (*axes.models, *axes.surrogates)) or any(
        defense.stochastic for defense in axes.defenses
    )


def _describe(cell: Cell) -> dict[str, Any]:
    return {
        "key": cell.key,
        **cell.specs(),
        "surrogate": None if cell.surrogate is None else full(cell.surrogate),
        "short": cell.short_names(),
        **({} if (stored := cell.stored_specs()) == cell.specs() else {"stored_as": stored}),
        **_attack_facts(cell.attack, cell.budget, cell.norm, cell.perturbation, bool(cell.failed)),
        "artefact": cell.chunks[0].artefact if cell.chunks else "",
        **({"defense_artefacts": list(keys)} if (keys := fitted_keys(cell.clean_key_inputs)) else {}),
        "draws_a_gradient": cell.chunks[0].target.draws if cell.chunks else None,
        "identity": cell.identity or _is_identity(cell.defense),
        "stochastic": cell.stochastic,
        **({"attacked_model_stochastic": True} if _attacks_stochastic_model(cell) else {}),
        "skipped": cell.skipped,
        "failed": cell.failed,
        "n": len(cell.ids),
        "image_shape": _image_shape(cell.dataset),
    }


def _attacks_stochastic_model(cell: Cell) -> bool:
    """Whether the attacked model is stochastic: the surrogate under the transfer threat."""
    return bool(cell.chunks) and cell.chunks[0].target.model.stochastic


@functools.cache
def _is_identity(defense: Chain) -> bool:
    """Whether a defense returns its input; cells that cannot be run do not know it."""
    return _get(lambda: defense.identity, bool) or False


@functools.cache
def _image_shape(dataset: Dataset) -> list[int] | None:
    """The shape of a dataset's images, one object for all of its cells; None if reading it fails."""
    shape = _get(lambda: dataset.image_shape, tuple)
    return None if shape is None else list(shape)


def _stand_ins(attack: Attack) -> list[int]:
    """Which of a defense's approximations an attack asks for; empty for all, and if reading them fails."""
    view = _get(lambda: attack.view, AdaptiveView)
    return [] if view is None else list(view.approximations)


@functools.cache
def _attack_facts(
    attack: Attack, budget: Budget | None, norm: str | None, perturbation: PerturbationSet | None, failed: bool
) -> dict[str, Any]:
    """Facts about an attack for its cells, read once."""
    perturbation = perturbation or _get(attack.perturbation, PerturbationSet)  # for cells that are not run
    return {
        "attack_kind": None if failed else _attack_kind(budget, perturbation),
        "budget": None if budget is None else {"norm": budget.norm, "eps": budget.eps},
        "norm": norm,
        "perturbation": _get(lambda: _perturbation_facts(perturbation), dict),
        "goal": goal_of(attack),
        "attack_access": attack.access,
        **({"stand_ins": numbers} if (numbers := _stand_ins(attack)) else {}),
        "attack_passes": None if failed else _get(attack.passes, int),
        "parameters": attack.values(),
        "components": list(_get(attack.component_names, tuple) or ()),
        "component_access": list(_get(attack.component_access, tuple) or ()),
    }


def _attack_kind(budget: Budget | None, perturbation: PerturbationSet | None) -> str:
    if perturbation is None or perturbation.kind == "lp":
        return "minimal" if budget is None else "budget"
    return "natural" if perturbation.kind == "corruption" else "set"


def _perturbation_facts(perturbation: PerturbationSet | None) -> dict[str, Any] | None:
    """A perturbation set as in results.json; None if it is unknown."""
    if perturbation is None:
        return None
    return {"kind": perturbation.kind, "label": perturbation.label(), "size": perturbation.main_size()}


def _get(read: Callable[[], Any], kind: type[T]) -> T | None:
    """A fact about a component for display; None if reading it fails, which is no reason to fail a run."""
    try:
        value = read()
    except (Exception, SystemExit):
        return None
    return value if isinstance(value, kind) else None


def _aliases(plan: Plan) -> dict[str, Any]:
    """The full specs of aliases, by the axis and the alias; nothing if there are none."""
    by_axis: dict[str, dict[str, str]] = {}
    for axes in plan.parts:
        for alias in axes.aliases:
            by_axis.setdefault(alias.axis, {})[alias.name] = alias.spec
    return {"aliases": by_axis} if by_axis else {}


def _components(plan: Plan) -> Sequence[tuple[str, Component]]:
    """Every component with its kind, each once, in the order of the parts' axes."""
    components: dict[tuple[str, Component], None] = {}
    for axes in plan.parts:
        components |= {("datasets", dataset): None for dataset in axes.datasets}
        components |= {("models", model): None for model in axes.models}
        components |= {("attacks", attack): None for attack in axes.attacks}
        components |= {("defenses", part): None for chain in axes.defenses for part in chain.parts}
    return list(components)


def _weights(plan: Plan) -> dict[str, str]:
    """SHA-256 of the weights of every model and defense that has any, by its spec.

    A component whose weights depend on the dataset has an entry for each dataset: its spec followed by the dataset's.
    """
    weights: dict[str, dict[str, str]] = {}
    for cell in plan.cells:
        if not cell.key:
            continue
        parts = zip(cell.defense.parts, cell.clean_key_inputs["defense"], strict=True)
        for component, key_inputs in ((cell.model, cell.clean_key_inputs["model"]), *parts):
            if key_inputs["weights"] is not None:
                weights.setdefault(short(component), {})[short(cell.dataset)] = key_inputs["weights"]
    return {
        spec if len(set(digests.values())) == 1 else f"{spec} on {dataset}": digest
        for spec, digests in weights.items()
        for dataset, digest in digests.items()
    }


def _versions(plan: Plan) -> dict[str, str]:
    versions = {"advbench": __version__, "python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in _LIBRARIES}
    for _, component in _components(plan):
        versions |= dependency_versions(type(component))
    return versions


def _plugins(plan: Plan, registry: Registry) -> list[dict[str, Any]]:
    plugins: dict[str, dict[str, Any]] = {}
    for kind, component in _components(plan):
        plugin = registry.get(kind, component.name).plugin
        plugins[plugin.name] = {
            "name": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "code": code_digests(type(component), component.code_modules()),
            **_file_digest(plugin),
        }
    return list(plugins.values())


def _file_digest(plugin: Plugin) -> dict[str, str]:
    """SHA-256 of the content of a plugin that is a single file, whose path is its name."""
    if not plugin.from_file:
        return {}
    try:
        return {"sha256": sha256_file(Path(plugin.name))}
    except OSError:  # it was deleted after it was loaded
        return {}


def _working_folder() -> str | None:
    """The folder from which relative paths in specs start; None if it has been deleted."""
    try:
        return str(Path.cwd())
    except OSError:
        return None
