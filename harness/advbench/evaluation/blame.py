"""Which component has changed the process for all others."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from advbench.api import Attack, Component, Dataset, DataSources, Defense, Model, SampleRandom
from advbench.discovery import ProcessState, calls_watched, is_interruption
from advbench.evaluation.cells import Axes, Cell
from advbench.evaluation.plan import Plan

if TYPE_CHECKING:
    from advbench.evaluation.environment import Workspace
    from advbench.evaluation.tasks import Task

__all__ = ["Culprit", "culprit_of", "plan_kept"]

_FEW = 4
"""How many images are enough to see who changes the process."""


class Culprit(NamedTuple):
    """Who it was.

    Attributes:
        label: What messages call the component.
        axis: ``dataset``, ``model``, ``attack`` or ``defense``.
        spec: Its spec in the task; of a part of a chain, the chain's.
    """

    label: str
    axis: str
    spec: str


def culprit_of(place: Workspace, task: Task) -> Culprit:
    """Calls the components of a task one after another, on a few images, until one changes the process again.

    What they return is thrown away: the process is not to be used again. Where none does it again, it is taken to be
    the task's attack, or else its defense.
    """
    steps: list[tuple[Culprit, Callable[[], object]]] = []
    with contextlib.suppress(Exception):  # the steps so far are tried
        steps.extend(_steps(place, task))
    for culprit, run in steps:
        if _changes(run):
            return culprit
    attack = getattr(task, "attack", "")
    axis, spec = ("attack", attack) if attack else ("defense", _specs(task)["defense"])
    name = place.attack(spec).name if attack else spec
    return Culprit(f"{axis} {name!r}", axis, spec)


def plan_kept(build: Callable[[], Plan], sources: DataSources) -> Plan:
    """A plan of components that have not changed the process while they were asked what it is made of.

    Where one has, that is put back and the plan is made again; the cells that need the component fail.

    Args:
        build: Makes the plan.
        sources: Where datasets may look.
    """
    with calls_watched("a component that was asked for the plan") as changed:
        plan = build()
        for attack in dict.fromkeys(attack for axes in plan.parts for attack in axes.attacks):
            with contextlib.suppress(Exception):  # what it raises is its cells' when they ask
                _ask_of_itself(attack)
    if not changed:
        return plan
    faults = _faults_of(_components(plan.parts), sources)
    with calls_watched(""):
        plan = build()
    return dataclasses.replace(plan, cells=tuple(_failed(cell, faults) for cell in plan.cells))


def _ask_of_itself(attack: Attack) -> None:
    """Asks an attack what the manifest and the forecast ask it."""
    for ask in (attack.passes, attack.component_names, attack.component_access):
        ask()


def _components(parts: Sequence[Axes]) -> list[Component]:
    """All that a plan is made of, none twice."""
    found: dict[Component, None] = {}
    for axes in parts:
        found |= dict.fromkeys((*axes.datasets, *axes.models, *axes.attacks))
        found |= dict.fromkeys(part for chain in axes.defenses for part in chain.parts)
        found |= {axes.surrogate: None} if axes.surrogate else {}
    return list(found)


def _failed(cell: Cell, faults: Mapping[Component, str]) -> Cell:
    """The cell, failed where one of its components has a fault."""
    needed = (cell.dataset, cell.model, cell.attack, *cell.defense.parts, *(chunk.aim.model for chunk in cell.chunks))
    fault = next((faults[component] for component in needed if component in faults), "")
    if not fault or cell.skipped or cell.failed:
        return cell
    return Cell(
        *(cell.dataset, cell.model, cell.attack, cell.threat, cell.defense, cell.seed), failed=fault, ids=cell.ids
    )


def _faults_of(components: Sequence[Component], sources: DataSources) -> dict[Component, str]:
    """Which of these components change the process when they are asked what a plan is made of, and what they change."""
    found = {}
    for component in components:
        changed = [told for ask in _questions(component, sources) for told in _changes(ask)]
        if changed:
            kind = next(kind for kind in (Attack, Dataset, Defense, Model) if isinstance(component, kind))
            who = f"{kind.__name__.lower()} {component.name!r}"
            found[component] = f"ContractError: {who} changed {' and '.join(changed)} for the whole process"
    return found


def _changes(run: Callable[[], object]) -> list[str]:
    """What a call changes; what it raises does not matter here."""
    before = ProcessState.now()
    try:
        run()
    except BaseException as error:
        if is_interruption(error):
            raise
    return before.put_back()


def _call(method: Callable[[torch.Tensor, SampleRandom], object], images: torch.Tensor, rng: SampleRandom) -> None:
    method(images.clone(), rng)


def _questions(component: Component, sources: DataSources) -> Iterator[Callable[[], object]]:
    """What the driver asks a component of this kind."""
    yield lambda: dataclasses.replace(component)
    yield component.values
    yield component.code_modules
    if isinstance(component, Dataset):
        yield lambda: (component.ids(), component.image_shape, component.num_classes)
        yield lambda: component.digest(sources)
    if isinstance(component, Model):
        yield lambda: (component.image_shape, component.num_classes)
        yield component.weights_digest
    if isinstance(component, Defense):
        yield lambda: (component.identity, component.stochastic)
        yield lambda: component.incompatibility((1, 28, 28))
        yield component.weights_digest
    if isinstance(component, Attack):
        yield component.budget
        yield lambda: _ask_of_itself(component)


def _specs(task: Task) -> dict[str, Any]:
    """The specs of what a task runs, by axis; empty where it runs nothing of the kind."""
    specs = getattr(task, "specs", None)
    if specs is not None:  # adversarial images are there
        return {**specs, "attack": ""}
    return {axis: getattr(task, axis, "") for axis in ("dataset", "model", "attack", "defense")}


def _steps(place: Workspace, task: Task) -> Iterator[tuple[Culprit, Callable[[], object]]]:
    """The calls that a task makes into its components, with whose each is."""
    specs, sources = _specs(task), place.environment.sources()
    if not specs["dataset"]:
        return
    dataset, model = place.dataset(specs["dataset"]), place.model(specs["model"])
    attack = place.attack(specs["attack"]) if specs["attack"] else None
    parts = place.chain(specs["defense"]).parts if specs["defense"] else ()
    of_dataset = Culprit(f"dataset {dataset.name!r}", "dataset", specs["dataset"])
    of_model = Culprit(f"model {model.name!r}", "model", specs["model"])
    of_parts = [Culprit(f"defense {part.name!r}", "defense", specs["defense"]) for part in parts]
    for culprit, component in ((of_dataset, dataset), (of_model, model), *zip(of_parts, parts, strict=True)):
        for ask in _questions(component, sources):
            yield culprit, ask
    yield of_dataset, lambda: dataset.load(sources)
    yield of_model, model.load
    data = place.images(specs["dataset"])
    ids = data.ids[:_FEW].tolist()
    images, labels = (tensor.to(place.device) for tensor in data.take(ids))
    network = place.network(specs["model"])
    yield of_model, lambda: network(images.clone())
    yield of_model, lambda: torch.autograd.grad(network(images.clone().requires_grad_()).sum(), images)
    for culprit, part in zip(of_parts, parts, strict=True):
        rng = SampleRandom(0, "blame", ids, place.device)
        yield culprit, partial(_call, part.apply, images, rng)
        yield culprit, partial(_call, part.approximation, images, rng)
    if attack is not None:
        of_attack = Culprit(f"attack {attack.name!r}", "attack", specs["attack"])
        for ask in _questions(attack, sources):
            yield of_attack, ask
        rng = SampleRandom(0, "blame", ids, place.device)
        yield of_attack, lambda: attack.run_with_notes(network, images.clone(), labels.clone(), rng)
