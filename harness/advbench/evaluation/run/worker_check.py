"""Workers have what the driver has: the same versions, the same code of plugins, and the same store."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor as FuturesExecutor

import torch

from advbench import __version__
from advbench.api import Executor
from advbench.discovery.identity import code_digests
from advbench.discovery.registry import Registry
from advbench.errors import UsageError, describe
from advbench.evaluation.plan.cells import Cell
from advbench.evaluation.run.schedule import Job
from advbench.evaluation.work.workspace import Environment, device_name, workspace
from advbench.store import Store, digest_of

__all__ = ["check_workers", "fingerprint"]

Needed = tuple[tuple[str, str], ...]
"""Kinds and names of components."""

STORE, DEVICE, THREADS = "store", "device", "threads"


def check_workers(
    executor: Executor, pool: FuturesExecutor, environment: Environment, jobs: Iterable[Job]
) -> dict[str, str | int]:
    """Makes sure that every worker would compute what this process would; nothing is asked of an executor without any.

    Returns:
        On which ``device`` and with how many ``threads`` the workers compute, for the manifest; each as text where they
        differ. Empty where there are no workers.

    Raises:
        UsageError: One has another version, other plugins, no such device, or sees another store; the message names it.
    """
    if executor.in_process:
        return {}
    needed = _needed(job.cell for job in jobs if job.cell is not None)
    with Store(environment.store).sign() as token:
        answers = executor.everywhere(pool, fingerprint, environment, needed, token)
    expected = fingerprint(environment, needed, None)
    for worker, answer in answers.items():
        _compare(worker, expected, answer, environment)
    devices = sorted({answer[DEVICE] for answer in answers.values()})
    threads = sorted({int(answer[THREADS]) for answer in answers.values()})
    if not answers:
        return {}
    return {
        DEVICE: ", ".join(devices),
        THREADS: threads[0] if len(threads) == 1 else f"{threads[0]} to {threads[-1]}",
    }


def fingerprint(environment: Environment, needed: Needed, token: str | None) -> dict[str, str]:
    """What this process would compute with: versions, and a digest of the code of each component.

    Args:
        environment: Where tasks run.
        needed: The components.
        token: A sign that the driver has left in the store, or None.
    """
    found = {"advbench": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    found["torch"] = torch.__version__
    if token is not None:
        found[STORE] = "" if Store(environment.store).sees_sign(token) else "another"
        found[DEVICE] = device_name(environment.device) or ""
    try:
        registry = workspace(environment).registry
    except Exception as error:
        return {**found, "plugins": describe(error)}
    if token is not None:
        found[THREADS] = str(torch.get_num_threads())
    return found | {f"{kind[:-1]} {name}": _told(registry, kind, name) for kind, name in needed}


def _told(registry: Registry, kind: str, name: str) -> str:
    """Where a component comes from and what code it is, or why that cannot be told."""
    try:
        registered = registry.get(kind, name)
        code = digest_of(code_digests(registered.component))
    except Exception as error:
        return describe(error)
    return f"that of {registered.plugin.provenance}, code {code[:8]}"


def _compare(worker: str, expected: Mapping[str, str], answer: object, environment: Environment) -> None:
    if not isinstance(answer, Mapping):
        raise UsageError(
            f"worker {worker} cannot tell what it has: {answer}; is advbench {__version__} installed there?"
        )
    if answer.get(STORE):
        raise UsageError(
            f"worker {worker} does not see the store {environment.store}; give --store a folder that all machines share"
        )
    if answer.get(DEVICE) == "":
        raise UsageError(
            f"worker {worker} sees no {environment.device}; start it where there is a GPU, or give --device cpu"
        )
    for name, here in expected.items():
        there = answer.get(name)
        if there is not None and there != here:
            raise UsageError(
                f"worker {worker} has another {name}: {there}, and not {here}; install the same there, and start it "
                "anew"
            )
        if there is None:
            raise UsageError(f"worker {worker} has no {name}: {answer.get('plugins', 'it is older')}; install it there")


def _needed(cells: Iterable[Cell]) -> Needed:
    found: dict[tuple[str, str], None] = {}
    for cell in cells:
        found[("datasets", cell.dataset.name)] = found[("models", cell.model.name)] = None
        found[("attacks", cell.attack.name)] = None
        found |= {("models", chunk.aim.model.name): None for chunk in cell.chunks}
        found |= {("defenses", part.name): None for part in cell.defense.parts}
    return tuple(found)
