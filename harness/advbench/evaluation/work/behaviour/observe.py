"""Runs a component on a few fixed images, in the process that computes with it."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import torch

from advbench.api import Attack, ContractError, Defense, Model
from advbench.api.executor import taint_process
from advbench.evaluation.plan.cells import full, short
from advbench.evaluation.work.behaviour.outputs import (
    Behaviour,
    defense_function,
    network_function,
    observe_attack,
    observe_outputs,
)
from advbench.evaluation.work.workspace import Environment, Workspace, get_workspace
from advbench.process.memory import free_memory, is_out_of_memory
from advbench.process.state import isolated_process
from advbench.process.stdout import stdout_to_stderr
from advbench.process.threads import report_thread_errors

__all__ = ["Observed", "kind_of", "observe", "observe_in_worker"]

Observed: TypeAlias = "Model | Defense | Attack"


def observe(workspace: Workspace, component: Observed, images: torch.Tensor, classes: int) -> Behaviour:
    """Runs a component on images and restores the process.

    Args:
        workspace: Where the component is loaded.
        component: The component.
        images: The images.
        classes: The number of classes, for attacks.

    Raises:
        ContractError: The component changed the process.
    """
    with stdout_to_stderr(), isolated_process() as process, report_thread_errors(lambda _: None):
        batch_size = workspace.environment.batch_size  # that of every process, unlike that of the current task
        behaviour = _run(workspace, component, images, batch_size, classes)
        if behaviour.error is not None and is_out_of_memory(behaviour.error):
            free_memory()
            behaviour = _run(workspace, component, images, 1, classes)
        changes = process.restore()
    if changes:
        reason = f"{kind_of(component)} {short(component)!r} changed {' and '.join(changes)} for the whole process"
        taint_process(reason)
        raise ContractError(reason)
    return behaviour


def observe_in_worker(environment: Environment, kind: str, spec: str, images: torch.Tensor, classes: int) -> Behaviour:
    """Runs a component in a worker process; the exception that it raised is not sent back."""
    workspace = get_workspace(environment)
    component: Observed
    if kind == "attack":
        component = workspace.attack(spec)
    else:
        component = workspace.model(spec) if kind == "model" else workspace.chain(spec).parts[0]
    try:
        return dataclasses.replace(observe(workspace, component, images, classes), error=None)
    except KeyboardInterrupt:  # in a worker only the component itself raises this
        return Behaviour(None, "raises KeyboardInterrupt")


def kind_of(component: Observed) -> str:
    """What messages call it: ``model``, ``defense`` or ``attack``."""
    return next(kind.__name__.lower() for kind in (Model, Defense, Attack) if isinstance(component, kind))


def _run(workspace: Workspace, component: Observed, images: torch.Tensor, batch_size: int, classes: int) -> Behaviour:
    if isinstance(component, Attack):  # on the CPU, since other devices round differently
        return observe_attack(component, images, classes)
    try:
        if isinstance(component, Model):
            function, precision = network_function(component, workspace.network(full(component)), batch_size)
        else:
            function, precision = defense_function(component), 0.0
    except (Exception, SystemExit) as error:
        return Behaviour(None, f"raises {type(error).__name__}", error)
    return observe_outputs(function, images.to(workspace.device), precision)
