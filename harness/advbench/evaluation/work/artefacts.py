"""Artefacts for the attacks and defenses that use them: read from the store, or from the files that users name."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import torch

from advbench.api import Artefact, ContractError, artefact_file_of, sha256_file
from advbench.evaluation.plan.tasks import CraftTask, FitTask
from advbench.evaluation.work.workspace import Workspace
from advbench.store.artefact_files import read_artefact_file

__all__ = ["artefact_of", "chain_artefacts"]

_Values: TypeAlias = "dict[str, torch.Tensor | float | str]"

_read: weakref.WeakKeyDictionary[Workspace, dict[str, _Values]] = weakref.WeakKeyDictionary()


def artefact_of(workspace: Workspace, task: CraftTask | FitTask) -> Artefact | None:
    """What a task's attack has fitted; None if it fits nothing, or is being fitted.

    It is a copy on the device, since an attack may change it.

    Raises:
        LookupError: The store no longer holds it.
        ContractError: The file has changed since the run was planned.
    """
    if isinstance(task, FitTask) or not task.artefact:
        return None
    known = _read.setdefault(workspace, {})
    if task.artefact not in known:
        file = artefact_file_of(workspace.attack(task.attack))
        known[task.artefact] = (
            _from_store(workspace, task)
            if file is None
            else _from_file(Path(file), task.artefact, f"attack {task.attack!r}")
        )
    return {
        name: value.to(workspace.device, copy=True) if isinstance(value, torch.Tensor) else value
        for name, value in known[task.artefact].items()
    }


def chain_artefacts(workspace: Workspace, defense: str, keys: Sequence[str]) -> tuple[Artefact | None, ...]:
    """What the parts of a defense have fitted, on the device; None for a part that has fitted nothing.

    Args:
        workspace: Where it is read.
        defense: The defense's spec.
        keys: The key of each part's artefact, or the digest of its file; empty for a part without one, as of
            :func:`~advbench.evaluation.plan.keys.fitted_keys`.

    Raises:
        LookupError: The store no longer holds one.
        ContractError: A file has changed since the run was planned.
    """
    known = _read.setdefault(workspace, {})
    for index, key in enumerate(keys):
        if key and key not in known:
            part = workspace.chain(defense).parts[index]
            file = artefact_file_of(part)
            if file is None:
                stored = workspace.store.read_artefact(key)
                if stored is None:
                    raise LookupError(
                        f"what defense {part.name!r} fitted has gone from the store; run the command again"
                    )
                values: _Values = {**stored[0], **stored[1]["values"]}
            else:
                values = _from_file(Path(file), key, f"defense {part.name!r}")
            known[key] = {
                name: value.to(workspace.device) if isinstance(value, torch.Tensor) else value
                for name, value in values.items()
            }
    return tuple(known[key] if key else None for key in keys)


def _from_store(workspace: Workspace, task: CraftTask) -> _Values:
    stored = workspace.store.read_artefact(task.artefact)
    if stored is None:
        raise LookupError(f"what attack {task.attack!r} fitted has gone from the store; run the command again")
    return {**stored[0], **stored[1]["values"]}


def _from_file(path: Path, digest: str, component: str) -> _Values:
    try:
        if sha256_file(path) != digest:
            raise ContractError(f"artefact {path} of {component} has changed since the run was planned")
        return read_artefact_file(path)
    except OSError as error:
        raise ContractError(f"artefact {path} of {component} cannot be read: {error.strerror or error}") from error
