"""Ids of how models, defenses and attacks behave, from the store.

For each network, known by its code, parameters and weights, and for each dataset, the store holds the outputs for a few
fixed images. A network with the same outputs as before gets the same id, and finds its results. A network with other
outputs, since a file or a variable that it reads has changed, gets another id. The comparison has a tolerance, so that
threads, machines and devices share results.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import TimeoutError as FuturesTimeoutError
from typing import Any

import numpy as np
import torch

from advbench.api import (
    Attack,
    ContractError,
    Dataset,
    DataSources,
    Defense,
    Executor,
    LabelledImages,
    Model,
    WorkerLostError,
)
from advbench.contracts.datasets import check_dataset
from advbench.discovery.registry import Registry
from advbench.errors import UsageError
from advbench.evaluation.plan.behaviours import is_self_contained
from advbench.evaluation.plan.cells import full, short
from advbench.evaluation.work.behaviour.attack_observation import attack_sample_images
from advbench.evaluation.work.behaviour.observe import Observed, kind_of, observe, observe_in_worker
from advbench.evaluation.work.behaviour.outputs import (
    SAMPLES,
    Behaviour,
    decode_array,
    digest_of_outputs,
    encode_array,
    outputs_agree,
)
from advbench.evaluation.work.workspace import Environment, Workspace, device_name
from advbench.option_names import option
from advbench.store import SCHEMA, Store, digest_of
from advbench.store.packing import as_bytes, as_floats

__all__ = ["FAILS", "KIND", "RANDOM", "StoredBehaviours", "behaviour_key_inputs", "first_images", "stored_images"]

KIND = "networks"
"""The kind of the store's entries."""

RANDOM, FAILS = "random ", "fails "
"""Prefixes of ids that are not compared with stored outputs."""

_CLAIM_TIMEOUT = 2.0
"""Seconds to wait for other runs that add to the same entry."""


class StoredBehaviours:
    """Runs each component once for each dataset, and looks up its outputs in the store.

    It implements :class:`advbench.evaluation.plan.behaviours.BehaviourIds`.

    Args:
        environment: Where tasks run.
        registry: Where components come from.
        sources: Where datasets may look.
        executor: What runs the tasks; None if this process does.
        read_only: Whether only stored behaviours are compared: nothing is downloaded, and :meth:`save` is not called.
        memory_limited: Whether the user has set a memory limit. Defenses and attacks run in a worker then, since they
            may exceed it.

    Attributes:
        notes: Messages for users: which networks have other outputs than before, or random ones.
        images: The datasets that were read, by their specs.
        keys: The keys of the store's entries that were used.
    """

    def __init__(
        self,
        environment: Environment,
        registry: Registry,
        sources: DataSources,
        executor: Executor | None = None,
        *,
        read_only: bool = False,
        memory_limited: bool = False,
    ) -> None:
        self.environment = environment
        self.registry = registry
        self.sources = sources
        self.executor = executor
        self.read_only = read_only
        self._memory_limited = memory_limited
        self.notes: list[str] = []
        self.images: dict[str, LabelledImages] = {}
        self.keys: set[str] = set()
        self._store = Store(environment.store)
        self._pool: FuturesExecutor | None = None
        self._observer = executor  # whose worker runs components
        self._ids: dict[str, str] = {}
        self._new: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    def id_of(
        self,
        component: Observed,
        identity: Mapping[str, Any],
        dataset: Dataset,
        dataset_identity: Mapping[str, Any],
    ) -> str:
        """The id of a component's behaviour, for its keys; see :class:`BehaviourIds`.

        Raises:
            ContractError: The component changed the process.
            UsageError: The dataset cannot be read.
        """
        key_inputs = behaviour_key_inputs(identity, dataset_identity)
        key = digest_of(key_inputs)
        if key not in self._ids:
            self._ids[key] = self._identify(component, dataset, key, key_inputs)
        return self._ids[key]

    def observes(self, component: Defense | Attack) -> bool:
        """Whether the behaviour of a defense or attack is a part of its keys: not if its class is self-contained."""
        return self.is_live(component) or (self._can_run_safely() and not is_self_contained(component))

    def _can_run_safely(self) -> bool:
        """Whether a component that takes all memory or ends its process harms nothing else.

        It would end a cluster's workers.
        """
        return self.executor is None or self.executor.in_process or self.executor.name == "processes"

    def is_live(self, component: Defense | Attack) -> bool:
        """Whether a component was defined in this session, so that no other process has it."""
        return self.registry.get(f"{kind_of(component)}s", component.name).plugin.module == "__main__"

    def id_of_defense(
        self,
        defense: Defense,
        identity: Mapping[str, Any],
        dataset: Dataset,
        dataset_identity: Mapping[str, Any],
    ) -> str:
        """The same as :meth:`id_of`; empty for a plugin's defense that fails, since its own cells report the failure.

        Raises:
            ContractError: A live defense changed the process.
            UsageError: The dataset cannot be read.
        """
        if self.is_live(defense):
            return self.id_of(defense, identity, dataset, dataset_identity)
        try:
            behaviour_id = self.id_of(defense, identity, dataset, dataset_identity)
        except (ContractError, LookupError):  # it changed the process, which is restored
            return ""
        return "" if behaviour_id.startswith(FAILS) else behaviour_id

    def id_of_attack(self, attack: Attack, identity: Mapping[str, Any], dataset: Dataset) -> str:
        """The same for an attack on synthetic images of the dataset's shape; empty if it fails."""
        form = {"shape": list(dataset.image_shape), "classes": dataset.num_classes}
        try:
            behaviour_id = self.id_of(attack, identity, dataset, form)
        except (ContractError, LookupError):  # it changed the process, which is restored
            return ""
        return "" if behaviour_id.startswith(FAILS) else behaviour_id

    def _identify(self, component: Observed, dataset: Dataset, key: str, key_inputs: dict[str, Any]) -> str:
        record = self._store.read_record(KIND, key)
        if record is None and self.read_only:
            return ""  # no results are stored for it
        self.keys.add(key)
        if isinstance(component, Attack):
            images = attack_sample_images(dataset.image_shape)
        else:
            images = self._sample_images(dataset) if record is None else stored_images(record)
        behaviour = self._observe(component, images, dataset.num_classes)
        label = f"{kind_of(component)} {short(component)!r}"
        if behaviour.outputs is None:
            return f"{FAILS}{behaviour.failure}"
        if behaviour.randomness:
            share = (
                f"differ by {behaviour.randomness:.1%} of their spread"
                if np.isfinite(behaviour.randomness)
                else "differ in entries that are not finite"
            )
            self.notes.append(
                f"{label} is random: two passes over the same images {share}; its results are those of one draw, and "
                "each command computes them again"
            )
            return f"{RANDOM}{secrets.token_hex(16)}"
        if behaviour.cut_off:
            self.notes.append(
                f"{label} queries the model more than {behaviour.cut_off:,} times, and only the beginning is compared "
                "with that of its stored results: if a file or a variable has changed that it reads later, give "
                f"{option('rerun', 'all')}"
            )
        stored = [] if record is None else record["behaviours"]
        for entry in stored:
            if outputs_agree(decode_array(entry["answers"]), behaviour.outputs, behaviour.precision):
                return str(entry["id"])
        if stored:
            self.notes.append(
                f"{label} has other outputs than when its stored results were computed, with the same code, parameters "
                "and weights; a file or a variable that it reads may have changed: its results are computed again"
            )
        entry = {"id": digest_of_outputs(behaviour.outputs), "answers": encode_array(behaviour.outputs)}
        self._new[key] = key_inputs, {"images": _encode_images(images), "behaviours": [entry]}
        return str(entry["id"])

    def _observe(self, component: Observed, images: torch.Tensor, classes: int) -> Behaviour:
        """Runs a component where tasks run, so that a component that ends its process or hangs ends no command."""
        apart = self._memory_limited and not isinstance(component, Model) and not self.is_live(component)
        if self.executor is None or (self.executor.in_process and not apart):
            environment = self.environment
            if device_name(environment.device) is None:
                environment = dataclasses.replace(environment, device="cpu")
            return observe(Workspace(environment, self.registry), component, images, classes)
        if self._pool is None:
            if self.executor.in_process:
                processes = self.registry.get("executors", "processes").component()
                assert isinstance(processes, Executor)
                self._observer = processes
            assert self._observer is not None
            self._pool = self._observer.open(1)
        arguments = kind_of(component), full(component), images, classes
        future = self._pool.submit(observe_in_worker, self.environment, *arguments)
        try:
            return future.result(self.environment.timeout)
        except (WorkerLostError, BrokenExecutor):
            failure = "ends its process"
        except (TimeoutError, FuturesTimeoutError):
            failure = "takes too long"
        self.close()
        return Behaviour(None, failure)

    def close(self) -> None:
        """Ends the worker; another one starts if it is needed."""
        if self._pool is not None and self._observer is not None:
            self._observer.abandon(self._pool)
            self._pool = None

    def _sample_images(self, dataset: Dataset) -> torch.Tensor:
        """The dataset's first images; blank ones if it breaks its contract, since its own cells report that."""
        spec = full(dataset)
        try:
            if spec not in self.images:
                self.images[spec] = check_dataset(dataset, dataset.load(self.sources))
            return first_images(self.images[spec])
        except UsageError:
            raise
        except (Exception, SystemExit):
            return torch.zeros(1, *dataset.image_shape)

    def save(self) -> None:
        """Writes new behaviours into the store, and keeps those that other runs have written meanwhile.

        Raises:
            StoreError: The store cannot be written.
        """
        for key, (key_inputs, record) in self._new.items():
            deadline = time.monotonic() + _CLAIM_TIMEOUT
            while not self._add(key, key_inputs, record, force=time.monotonic() >= deadline):
                time.sleep(0.05)
        self._new.clear()

    def _add(self, key: str, key_inputs: dict[str, Any], record: dict[str, Any], *, force: bool) -> bool:
        with self._store.claim(f"{KIND} {key}") as claimed:
            if not claimed and not force:
                return False
            stored = self._store.read_record(KIND, key)
            if stored is not None:
                stored_ids = [entry["id"] for entry in stored["behaviours"]]
                new = [entry for entry in record["behaviours"] if entry["id"] not in stored_ids]
                if not new:
                    return True
                record = {**stored, "behaviours": [*stored["behaviours"], *new]}
            self._store.write_record(KIND, key_inputs, record)
            return True


def behaviour_key_inputs(identity: Mapping[str, Any], dataset_identity: Mapping[str, Any]) -> dict[str, Any]:
    """What the key of a behaviour's entry in the store is the digest of."""
    return {"schema": SCHEMA, "kind": KIND, "component": dict(identity), "dataset": dict(dataset_identity)}


def first_images(data: LabelledImages) -> torch.Tensor:
    """The images of a dataset that components are run on."""
    return data.take(data.ids[:SAMPLES].tolist())[0]


def stored_images(record: Mapping[str, Any]) -> torch.Tensor:
    """The images for which an entry holds outputs."""
    images = torch.from_numpy(decode_array(record["images"]))
    return as_floats(images) if images.dtype == torch.uint8 else images


def _encode_images(images: torch.Tensor) -> dict[str, Any]:
    levels = as_bytes(images.cpu())
    return encode_array((images.cpu() if levels is None else levels).numpy())
