"""Checks that workers have the same versions, the same code of plugins and the same store as the driver."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor as FuturesExecutor

from advbench._version import __version__
from advbench.api import Executor
from advbench.discovery.identity import code_digests
from advbench.discovery.registry import Registry
from advbench.errors import UsageError, describe
from advbench.evaluation.plan.cells import Cell
from advbench.evaluation.run.schedule import Job
from advbench.evaluation.work.workspace import Environment, device_name, get_workspace
from advbench.option_names import option
from advbench.store import Store, digest_of

__all__ = ["check_workers", "fingerprint"]

ComponentNames = tuple[tuple[str, str], ...]
"""Pairs of a kind and a name of a component."""

STORE, DEVICE, THREADS = "store", "device", "threads"


def check_workers(
    executor: Executor, pool: FuturesExecutor, environment: Environment, jobs: Iterable[Job]
) -> dict[str, str | int]:
    """Checks that every worker would compute what this process would; does nothing if the executor has no workers.

    Returns:
        The ``device`` and the number of ``threads`` with which the workers compute, for the manifest; as text if they
        differ. Empty if there are no workers.

    Raises:
        UsageError: A worker has another version, other plugins, no such device or another store; the message names it.
    """
    if executor.in_process:
        return {}
    components = _components(job.cell for job in jobs if job.cell is not None)
    with Store(environment.store).shared_marker() as token:
        fingerprints = executor.everywhere(pool, fingerprint, environment, components, token)
    expected = fingerprint(environment, components, None)
    for worker, actual in fingerprints.items():
        _compare(worker, expected, actual, environment)
    devices = sorted({actual[DEVICE] for actual in fingerprints.values()})
    threads = sorted({int(actual[THREADS]) for actual in fingerprints.values()})
    if not fingerprints:
        return {}
    return {
        DEVICE: ", ".join(devices),
        THREADS: threads[0] if len(threads) == 1 else f"{threads[0]} to {threads[-1]}",
    }


def fingerprint(environment: Environment, components: ComponentNames, token: str | None) -> dict[str, str]:
    """The versions that this process has, and a digest of the code of each component.

    Args:
        environment: The settings of workers.
        components: The components.
        token: A token that the driver has left in the store, or None.
    """
    import torch  # here, since only runs need it

    result = {"advbench": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    result["torch"] = torch.__version__
    if token is not None:
        result[STORE] = "" if Store(environment.store).has_marker(token) else "another"
        result[DEVICE] = device_name(environment.device) or ""
    try:
        registry = get_workspace(environment).registry
    except Exception as error:
        return {**result, "plugins": describe(error)}
    if token is not None:
        result[THREADS] = str(torch.get_num_threads())
    return result | {f"{kind[:-1]} {name}": _provenance(registry, kind, name) for kind, name in components}


def _provenance(registry: Registry, kind: str, name: str) -> str:
    """Where a component comes from and the digest of its code, or the error of finding that out."""
    try:
        registered = registry.get(kind, name)
        code = digest_of(code_digests(registered.component))
    except Exception as error:
        return describe(error)
    return f"that of {registered.plugin.provenance}, code {code[:8]}"


def _compare(worker: str, expected: Mapping[str, str], actual: object, environment: Environment) -> None:
    if not isinstance(actual, Mapping):
        raise UsageError(
            f"worker {worker} cannot report its versions: {actual}; is advbench {__version__} installed there?"
        )
    if actual.get(STORE):
        raise UsageError(
            f"worker {worker} does not see the store {environment.store}; give {option('store')} a folder that all "
            "machines share"
        )
    if actual.get(DEVICE) == "":
        raise UsageError(
            f"worker {worker} sees no {environment.device}; start it where there is a GPU, or give "
            f"{option('device', 'cpu')}"
        )
    for name, wanted in expected.items():
        installed = actual.get(name)
        if installed is not None and installed != wanted:
            raise UsageError(
                f"worker {worker} has another {name}: {installed}, and not {wanted}; install the same "
                "there, and restart it"
            )
        if installed is None:
            raise UsageError(f"worker {worker} has no {name}: {actual.get('plugins', 'it is older')}; install it there")


def _components(cells: Iterable[Cell]) -> ComponentNames:
    names: dict[tuple[str, str], None] = {}
    for cell in cells:
        names[("datasets", cell.dataset.name)] = names[("models", cell.model.name)] = None
        names[("attacks", cell.attack.name)] = None
        names |= {("models", chunk.target.model.name): None for chunk in cell.chunks}
        names |= {("defenses", part.name): None for part in cell.defense.parts}
    return tuple(names)
