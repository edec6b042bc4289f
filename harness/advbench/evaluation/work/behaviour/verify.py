"""Verifies that a worker computes with what the keys say: the same code, weights, data and behaviour."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from advbench.api import ContractError, Defense, Model
from advbench.errors import blamed
from advbench.evaluation.plan.cells import full, short
from advbench.evaluation.plan.certificates import certifier_of
from advbench.evaluation.plan.keys import KeyContext, certificate_key_inputs, fitted_keys
from advbench.evaluation.plan.tasks import CertifyTask, CleanTask, CraftTask, DefenseFitTask, FitTask, ScoreTask
from advbench.evaluation.work.behaviour.observe import kind_of, observe
from advbench.evaluation.work.behaviour.outputs import decode_array, outputs_agree
from advbench.evaluation.work.behaviour.stored import (
    FAILS,
    KIND,
    RANDOM,
    behaviour_key_inputs,
    first_images,
    stored_images,
)
from advbench.evaluation.work.workspace import Workspace
from advbench.store import digest_of

__all__ = ["verify_behaviour", "verify_key_inputs", "verify_scored_inputs"]

_verified: weakref.WeakKeyDictionary[Workspace, set[tuple[str, str, int]]] = weakref.WeakKeyDictionary()
_verified_clean: weakref.WeakKeyDictionary[Workspace, set[str]] = weakref.WeakKeyDictionary()


def verify_key_inputs(
    workspace: Workspace, task: CraftTask | FitTask | DefenseFitTask | CleanTask | CertifyTask
) -> None:
    """Checks that what this process has loaded is what the task's key says: files may have changed since the plan.

    Raises:
        ContractError: Code, weights or data differ from the plan's, or a component behaves differently.
    """
    workspace.images(task.dataset)
    workspace.network(task.model)
    dataset, model = workspace.dataset(task.dataset), workspace.model(task.model)
    digest = workspace.dataset_digest(task.dataset)
    context = KeyContext.of(dataset, digest, model, task.seed, workspace.environment.device)
    model_behaviour = task.key_inputs["model"].get("answers", "")
    components: list[tuple[Model | Defense, dict[str, Any], str]] = [(model, context.model, model_behaviour)]
    chain = workspace.chain(task.defense) if task.defense else None
    if chain is not None:
        for part, inputs in zip(chain.parts, task.key_inputs["defense"] or (), strict=False):
            identity = {name: inputs[name] for name in inputs if name != "answers"}
            components.append((part, identity, inputs.get("answers", "")))
    for component, _, behaviour_id in components:
        context = context.with_behaviour(component, behaviour_id)
    fitted = fitted_keys(task.key_inputs)
    if isinstance(task, CleanTask):
        assert chain is not None
        key_inputs = context.clean(task.ids, chain, task.draws, fitted=fitted)
    elif isinstance(task, DefenseFitTask):
        assert chain is not None
        key_inputs = context.defense_artefact(task.ids, chain, task.part, fitted=fitted)
    elif isinstance(task, CertifyTask):
        assert chain is not None
        certifier = certifier_of(model, chain)
        assert certifier is not None
        key_inputs = certificate_key_inputs(context.clean(task.ids, chain, fitted=fitted), task.ids, certifier)
    else:
        attack = workspace.attack(task.attack)
        context = context.with_behaviour(attack, task.key_inputs["attack"].get("answers", ""))
        target = (attack, task.threat, chain, task.draws)
        key_inputs = (
            context.artefact(task.ids, *target, precision=task.precision, fitted=fitted)
            if isinstance(task, FitTask)
            else context.adversarial(
                task.ids,
                *target,
                precision=task.precision,
                max_queries=task.max_queries,
                artefact=task.artefact,
                fitted=fitted,
            )
        )
    if key_inputs != task.key_inputs:
        changed = [name for name in key_inputs if key_inputs[name] != task.key_inputs.get(name)]
        raise ContractError(
            f"{', '.join(changed)} changed on disk while the run was under way; run the command again (or the digest "
            "is another at each call, which 'advbench check' reports)"
        )
    for component, identity, behaviour_id in components:
        verify_behaviour(
            workspace, component, identity, context.dataset, behaviour_id=behaviour_id, dataset_spec=task.dataset
        )


def verify_scored_inputs(workspace: Workspace, task: ScoreTask) -> None:
    """The same for a cell, whose predictions on clean images another process may have computed.

    Raises:
        ContractError: Code, weights or data differ from the plan's, or a component behaves differently.
    """
    key_inputs = workspace.store.read_key_inputs("clean", task.clean)
    if key_inputs is None:
        return  # scoring reports that
    verified = _verified_clean.setdefault(workspace, set())
    if task.clean in verified:
        return
    ids = tuple(sample for _, ids in task.chunks for sample in ids)
    specs = task.components
    verify_key_inputs(
        workspace,
        CleanTask(key_inputs, ids, specs["dataset"], specs["model"], specs["defense"], task.seed, task.draws),
    )
    verified.add(task.clean)


def verify_behaviour(
    workspace: Workspace,
    component: Model | Defense,
    identity: Mapping[str, Any],
    dataset_identity: Mapping[str, Any],
    *,
    behaviour_id: str,
    dataset_spec: str,
) -> None:
    """Checks that a component behaves in this process as it did where the run was planned.

    Args:
        workspace: Where the component is loaded.
        component: The model, or the live defense.
        identity: What keys hold of the component besides its behaviour.
        dataset_identity: What keys hold of the dataset.
        behaviour_id: The id of its behaviour; empty for a component whose behaviour is not observed.
        dataset_spec: The dataset's spec.

    Raises:
        ContractError: It behaves differently.
        LookupError: The store no longer holds the outputs to compare with.
    """
    if not behaviour_id or behaviour_id.startswith(RANDOM):
        return
    if (
        isinstance(component, Defense)
        and workspace.registry.get("defenses", component.name).plugin.module != "__main__"
    ):
        return  # a plugin's defense may depend on the memory that is left to a worker
    key = digest_of(behaviour_key_inputs(identity, dataset_identity))
    loaded = workspace.network(full(component)) if isinstance(component, Model) else component
    verified = _verified.setdefault(workspace, set())
    if (key, behaviour_id, id(loaded)) in verified:
        return
    label, expected, images = f"{kind_of(component)} {short(component)!r}", None, None
    if not behaviour_id.startswith(FAILS):
        record = workspace.store.read_record(KIND, key) or {"behaviours": []}
        expected = next((entry["answers"] for entry in record["behaviours"] if entry["id"] == behaviour_id), None)
        if expected is None:
            raise LookupError(
                f"the outputs of {label} when the run was planned have gone from the store; run the command again"
            )
        images = stored_images(record)
    if images is None:
        images = first_images(workspace.images(dataset_spec))
    behaviour = observe(workspace, component, images, 0)
    if behaviour.error is not None:
        with blamed(label):
            raise behaviour.error
    if expected is None and behaviour.outputs is None:
        return  # the checks of contracts report what is wrong with it
    same = (
        expected is not None
        and behaviour.outputs is not None
        and not behaviour.randomness
        and outputs_agree(decode_array(expected), behaviour.outputs, behaviour.precision)
    )
    if not same:
        raise ContractError(
            f"{label} has other outputs in a worker than where the run was planned; what it reads must be the same "
            "for all processes, and stay the same during a run"
        )
    verified.add((key, behaviour_id, id(loaded)))
