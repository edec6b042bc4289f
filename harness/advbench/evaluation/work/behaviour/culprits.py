"""Which component has changed the process."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch

from advbench.api import Attack, Component, Dataset, DataSources, Defense, Model, SampleRandom
from advbench.contracts.artefacts import trial_artefact, trial_defense_artefact
from advbench.contracts.goals import trial_goal
from advbench.evaluation.plan.build import Plan
from advbench.evaluation.plan.cells import Axes, Cell
from advbench.evaluation.plan.tasks import Task
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.evaluation.work.networks import takes_rng
from advbench.evaluation.work.workspace import Workspace
from advbench.process.state import ProcessState, is_user_interrupt, undo_process_changes
from advbench.specs import Chain, transforms_images

__all__ = ["Culprit", "build_checked_plan", "find_culprit"]

_IMAGES = 4
"""How many images components are called with to see which of them changes the process."""


class Culprit(NamedTuple):
    """A component that changes the process.

    Attributes:
        label: What messages call the component.
        axis: ``dataset``, ``model``, ``attack`` or ``defense``.
        spec: Its spec in the task; for a part of a chain, the chain's spec.
    """

    label: str
    axis: str
    spec: str


def find_culprit(workspace: Workspace, task: Task) -> Culprit:
    """Calls the components of a task one after another on a few images, until one changes the process again.

    The results of these calls are not used, and neither is the process. If no component changes it again, the culprit
    is taken to be the task's attack, or else its defense.
    """
    calls: list[tuple[Culprit, Callable[[], object]]] = []
    with contextlib.suppress(Exception):  # the calls collected so far are made
        calls.extend(_component_calls(workspace, task))
    for culprit, call in calls:
        if _changes(call):
            return culprit
    specs = task.components
    axis = "attack" if "attack" in specs else "defense"
    spec = specs.get(axis, "")
    name = workspace.attack(spec).name if axis == "attack" else spec
    return Culprit(f"{axis} {name!r}", axis, spec)


def build_checked_plan(build: Callable[[], Plan], sources: DataSources) -> Plan:
    """Builds a plan, and fails the cells of components that change the process meanwhile.

    The changes are undone and the plan is built again.

    Args:
        build: Builds the plan.
        sources: Where datasets may look.
    """
    with undo_process_changes("a component") as changed:
        plan = build()
        for attack in dict.fromkeys(attack for axes in plan.parts for attack in axes.attacks):
            with contextlib.suppress(Exception):  # its cells report what it raises
                _describe_attack(attack)
    if not changed:
        return plan
    faults = _faults_of(_components(plan.parts), sources)
    with undo_process_changes(""):
        plan = build()
    return dataclasses.replace(plan, cells=tuple(_failed(cell, faults) for cell in plan.cells))


def _describe_attack(attack: Attack) -> None:
    """Calls the methods of an attack that the manifest and the estimate call."""
    for method in (attack.passes, attack.component_names, attack.component_access):
        method()


def _components(parts: Sequence[Axes]) -> list[Component]:
    """All components of a plan, each once."""
    components: dict[Component, None] = {}
    for axes in parts:
        components |= dict.fromkeys((*axes.datasets, *axes.models, *axes.attacks))
        components |= dict.fromkeys(part for chain in axes.defenses for part in chain.parts)
        components |= dict.fromkeys(axes.surrogates)
    return list(components)


def _failed(cell: Cell, faults: Mapping[Component, str]) -> Cell:
    """The cell; failed if one of its components has a fault."""
    needed = (
        cell.dataset,
        cell.model,
        cell.attack,
        *cell.defense.parts,
        *(chunk.target.model for chunk in cell.chunks),
    )
    fault = next((faults[component] for component in needed if component in faults), "")
    if not fault or cell.skipped or cell.failed:
        return cell
    return Cell(
        *(cell.dataset, cell.model, cell.attack, cell.threat, cell.defense, cell.seed),
        surrogate=cell.surrogate,
        names_surrogate=cell.names_surrogate,
        failed=fault,
        ids=cell.ids,
    )


def _faults_of(components: Sequence[Component], sources: DataSources) -> dict[Component, str]:
    """The components that change the process when a plan is built, each with an error message."""
    faults = {}
    for component in components:
        changed = [change for call in _planning_calls(component, sources) for change in _changes(call)]
        if changed:
            kind = next(kind for kind in (Attack, Dataset, Defense, Model) if isinstance(component, kind))
            label = f"{kind.__name__.lower()} {component.name!r}"
            faults[component] = f"ContractError: {label} changed {' and '.join(changed)} for the whole process"
    return faults


def _changes(call: Callable[[], object]) -> list[str]:
    """What a call changes in the process; exceptions that it raises are ignored."""
    state = ProcessState()
    try:
        call()
    except BaseException as error:
        if is_user_interrupt(error):
            raise
    return state.restore()


def _apply(method: Callable[[torch.Tensor, SampleRandom], object], images: torch.Tensor, rng: SampleRandom) -> None:
    method(images.clone(), rng)


def _classify(part: Defense, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom) -> None:
    """Fits a defense to a few images, and classifies these."""
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    fitted = trial_defense_artefact(part, network, images, labels, rng.derive("fit"))
    for method in (part.classify, part.attacked):
        method(network, images.clone(), rng, fitted)


def _craft(
    attack: Attack, network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, ids: Sequence[int]
) -> None:
    """Fits an attack to a few images, and attacks these."""
    goal = trial_goal(attack, labels, network(images))
    streams = SampleRandom(0, "fit", ids, images.device)
    fitted = trial_artefact(attack, network, images, goal, streams)
    attack.craft(network, images.clone(), goal, SampleRandom(0, "blame", ids, images.device), fitted)


def _planning_calls(component: Component, sources: DataSources) -> Iterator[Callable[[], object]]:
    """The calls of a component that the driver makes to build a plan."""
    yield lambda: dataclasses.replace(component)
    yield component.values
    yield component.code_modules
    if isinstance(component, Dataset):
        yield lambda: (component.ids(), component.image_shape, component.num_classes)
        yield lambda: component.digest(sources)
    if isinstance(component, Model):
        yield lambda: (component.image_shape, component.num_classes, component.gives, component.stochastic)
        yield component.weights_digest
    if isinstance(component, Defense):
        yield lambda: (component.identity, component.stochastic)
        yield lambda: (component.incompatibility((1, 28, 28)), component.output_shape((1, 28, 28)))
        yield component.weights_digest
    if isinstance(component, Attack):
        yield lambda: (component.budget(), component.perturbation())
        yield lambda: _describe_attack(component)


def _component_calls(workspace: Workspace, task: Task) -> Iterator[tuple[Culprit, Callable[[], object]]]:
    """The calls of components that a task makes, each with its component."""
    specs, sources = task.components, workspace.environment.sources()
    if not specs:
        return
    dataset, model = workspace.dataset(specs["dataset"]), workspace.model(specs["model"])
    attack = workspace.attack(specs["attack"]) if "attack" in specs else None
    parts = workspace.chain(specs["defense"]).parts if "defense" in specs else ()
    of_dataset = Culprit(f"dataset {dataset.name!r}", "dataset", specs["dataset"])
    of_model = Culprit(f"model {model.name!r}", "model", specs["model"])
    of_parts = [Culprit(f"defense {part.name!r}", "defense", specs["defense"]) for part in parts]
    for culprit, component in ((of_dataset, dataset), (of_model, model), *zip(of_parts, parts, strict=True)):
        for call in _planning_calls(component, sources):
            yield culprit, call
    yield of_dataset, lambda: dataset.load(sources)
    yield of_model, model.load
    data = workspace.images(specs["dataset"])
    ids = data.ids[:_IMAGES].tolist()
    images, labels = (tensor.to(workspace.device) for tensor in data.take(ids))
    network = workspace.network(specs["model"])
    if takes_rng(network):
        network = ChainPass(Chain(()), network, _IMAGES).classifier(SampleRandom(0, "blame", ids, workspace.device))
    yield of_model, lambda: network(images.clone())
    yield of_model, lambda: torch.autograd.grad(network(images.clone().requires_grad_()).sum(), images)
    for culprit, part in zip(of_parts, parts, strict=True):
        rng = SampleRandom(0, "blame", ids, workspace.device)
        if transforms_images(part):
            yield culprit, partial(_apply, part.apply, images, rng)
            yield culprit, partial(_apply, part.approximation, images, rng)
        else:
            yield culprit, partial(_classify, part, network, images, rng)
    if attack is not None:
        of_attack = Culprit(f"attack {attack.name!r}", "attack", specs["attack"])
        for call in _planning_calls(attack, sources):
            yield of_attack, call
        yield of_attack, partial(_craft, attack, network, images, labels, ids)
