"""What networks and live functions answered when their stored results were made, and whether they still do.

The store holds for each network, known by its code, parameters and weights, and each dataset the answers on a few
fixed images. A network that answers as it did finds its results; one that answers otherwise, since a file that it
reads or a variable has changed, has others. Answers are compared with a tolerance, so that threads, machines and
devices share results.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
import weakref
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor
from concurrent.futures import Executor as FuturesExecutor
from concurrent.futures import TimeoutError as FuturesTimeoutError
from typing import Any, TypeAlias

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
from advbench.api.executor import taint_process
from advbench.contracts.datasets import check_dataset
from advbench.discovery.registry import Registry
from advbench.errors import UsageError, blamed
from advbench.evaluation.plan.cells import full, short
from advbench.evaluation.work.behaviour import compare as behaviour
from advbench.evaluation.work.behaviour.attack_probe import attacked_samples
from advbench.evaluation.work.behaviour.compare import SAMPLES, Behaviour
from advbench.evaluation.work.workspace import Environment, Workspace, device_name, workspace
from advbench.process.memory import free_memory, is_shortage
from advbench.process.state import process_kept
from advbench.process.stdout import stdout_kept
from advbench.process.threads import threads_watched
from advbench.store import SCHEMA, Store, digest_of
from advbench.store.packing import as_bytes, as_floats

__all__ = ["KIND", "Answers", "confirm"]

KIND = "networks"
"""The kind of the store's entries."""

_RANDOM, _FAILS = "random ", "fails "
"""How the identity of a behaviour begins that no stored one can be compared with."""

_Asked: TypeAlias = "Model | Defense | Attack"

_PATIENCE = 2.0
"""Seconds for which others who add to the same entry are waited for."""


class Answers:
    """Asks networks, once for each dataset, and finds what they answered in the store.

    Args:
        environment: Where tasks run.
        registry: Where components come from.
        sources: Where datasets may look.
        executor: Who runs the tasks; None where this process does.
        peek: Whether only what is stored is compared: nothing is downloaded, and :meth:`keep` is not called.
        holds_memory: Whether the user has set a limit of memory, which a defense that is asked here might exceed.

    Attributes:
        notes: What users should know: which networks answer otherwise than before, or at random.
        images: The datasets that were read meanwhile, by their specs.
    """

    def __init__(
        self,
        environment: Environment,
        registry: Registry,
        sources: DataSources,
        executor: Executor | None = None,
        *,
        peek: bool = False,
        holds_memory: bool = False,
    ) -> None:
        self.environment = environment
        self.registry = registry
        self.sources = sources
        self.executor = executor
        self.peek = peek
        self._holds_memory = holds_memory
        self.notes: list[str] = []
        self.images: dict[str, LabelledImages] = {}
        self.keys: set[str] = set()
        self._store = Store(environment.store)
        self._pool: FuturesExecutor | None = None
        self._known: dict[str, str] = {}
        self._new: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}

    def of(self, component: _Asked, identity: Mapping[str, Any], dataset: Dataset, data: Mapping[str, Any]) -> str:
        """The identity of a component's behaviour, for its keys.

        Args:
            component: A model, defense or attack.
            identity: What its keys hold beside.
            dataset: The dataset whose images it is asked about.
            data: What keys hold of that.

        Raises:
            ContractError: Being asked, it changed the process.
            UsageError: The dataset cannot be read.
        """
        key_inputs = _material(identity, data)
        key = digest_of(key_inputs)
        if key not in self._known:
            self._known[key] = self._ask(component, dataset, key, key_inputs)
        return self._known[key]

    def asks(self, component: Defense | Attack) -> bool:
        """Whether a defense or attack is asked, too: all but those whose class says that they are self-contained."""
        return self.is_live(component) or (self._can_be_lost() and not behaviour.is_self_contained(component))

    def _can_be_lost(self) -> bool:
        """Whether a defense that takes all memory, or ends its process, costs nobody else anything when it is asked.

        It would cost a cluster its workers, and a process that holds its tasks to a limit of memory is no worker.
        """
        if self.executor is None or self.executor.in_process:
            return not self._holds_memory
        return self.executor.name == "processes"

    def is_live(self, component: Defense | Attack) -> bool:
        """Whether a defense or attack is one of this session, which no other process has."""
        return self.registry.get(f"{_kind(component)}s", component.name).plugin.module == "__main__"

    def of_defense(
        self, defense: Defense, identity: Mapping[str, Any], dataset: Dataset, data: Mapping[str, Any]
    ) -> str:
        """The same as :meth:`of`; empty where a defense that is no live one cannot be asked, which its cells tell.

        Raises:
            ContractError: Being asked, a live defense changed the process.
            UsageError: The dataset cannot be read.
        """
        if self.is_live(defense):
            return self.of(defense, identity, dataset, data)
        try:
            told = self.of(defense, identity, dataset, data)
        except (ContractError, LookupError):  # it changed the process, which is put back
            return ""
        return "" if told.startswith(_FAILS) else told

    def of_attack(self, attack: Attack, identity: Mapping[str, Any], dataset: Dataset) -> str:
        """The same of an attack, which is asked about images of the dataset's form; empty where it cannot be asked."""
        form = {"shape": list(dataset.image_shape), "classes": dataset.num_classes}
        try:
            told = self.of(attack, identity, dataset, form)
        except (ContractError, LookupError):  # it changed the process, which is put back
            return ""
        return "" if told.startswith(_FAILS) else told

    def _ask(self, component: _Asked, dataset: Dataset, key: str, key_inputs: dict[str, Any]) -> str:
        record = self._store.read_record(KIND, key)
        if record is None and self.peek:
            return ""  # nothing is stored of it
        self.keys.add(key)
        if isinstance(component, Attack):
            images = attacked_samples(dataset.image_shape)
        else:
            images = self._samples(dataset) if record is None else _images(record)
        found = self._behaviour(component, images, dataset.num_classes)
        label = f"{_kind(component)} {short(component)!r}"
        if found.values is None:
            return f"{_FAILS}{found.fails}"
        if found.random:
            share = f"by {found.random:.1%} of their spread" if np.isfinite(found.random) else "in part by no number"
            self.notes.append(
                f"{label} answers at random, two passes over the same images differing {share}: its results are those "
                "of one draw, and are computed anew by each command"
            )
            return f"{_RANDOM}{secrets.token_hex(16)}"
        stored = [] if record is None else record["behaviours"]
        for one in stored:
            if behaviour.agree(behaviour.unpacked(one["answers"]), found.values, found.coarse):
                return str(one["id"])
        if stored:
            self.notes.append(
                f"{label} answers otherwise than when its stored results were made, though its code, parameters and "
                "weights are the same (a file or a variable that it reads has changed?): it is computed anew"
            )
        made = {"id": behaviour.identify(found.values), "answers": behaviour.packed(found.values)}
        self._new[key] = key_inputs, {"images": _packed(images), "behaviours": [made]}
        return str(made["id"])

    def _behaviour(self, component: _Asked, images: torch.Tensor, classes: int) -> Behaviour:
        """Asks where tasks are run, so that what ends its process, or is never done, ends no command."""
        if self.executor is None or self.executor.in_process:
            environment = self.environment
            if device_name(environment.device) is None:
                environment = dataclasses.replace(environment, device="cpu")
            return _behaviour(Workspace(environment, self.registry), component, images, classes)
        if self._pool is None:
            self._pool = self.executor.open(1)
        what = _kind(component), full(component), images, classes
        future = self._pool.submit(asked_in_worker, self.environment, *what)
        try:
            return future.result(self.environment.timeout)
        except (WorkerLostError, BrokenExecutor):
            ended = "ends its process"
        except (TimeoutError, FuturesTimeoutError):
            ended = "takes too long"
        self.close()
        return Behaviour(None, ended)

    def close(self) -> None:
        """Lets go of the worker that asks; another is taken where something is asked again."""
        if self._pool is not None and self.executor is not None:
            self.executor.abandon(self._pool)
            self._pool = None

    def _samples(self, dataset: Dataset) -> torch.Tensor:
        """The dataset's first images; none where it breaks its contract, which its cells will tell."""
        spec = full(dataset)
        try:
            if spec not in self.images:
                self.images[spec] = check_dataset(dataset, dataset.load(self.sources))
            return _first(self.images[spec])
        except UsageError:
            raise
        except (Exception, SystemExit):
            return torch.zeros(1, *dataset.image_shape)

    def keep(self) -> None:
        """Writes what is new into the store, beside what others have written meanwhile.

        Raises:
            StoreError: The store cannot be written.
        """
        for key, (key_inputs, record) in self._new.items():
            until = time.monotonic() + _PATIENCE
            while not self._add(key, key_inputs, record, surely=time.monotonic() >= until):
                time.sleep(0.05)
        self._new.clear()

    def _add(self, key: str, key_inputs: dict[str, Any], record: dict[str, Any], *, surely: bool) -> bool:
        with self._store.claim(f"{KIND} {key}") as mine:
            if not mine and not surely:
                return False
            there = self._store.read_record(KIND, key)
            if there is not None:
                known = [one["id"] for one in there["behaviours"]]
                more = [one for one in record["behaviours"] if one["id"] not in known]
                if not more:
                    return True
                record = {**there, "behaviours": [*there["behaviours"], *more]}
            self._store.write_record(KIND, key_inputs, record)
            return True


_confirmed: weakref.WeakKeyDictionary[Workspace, set[tuple[str, str, int]]] = weakref.WeakKeyDictionary()


def confirm(
    place: Workspace,
    component: Model | Defense,
    identity: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    told: str,
    spec: str,
) -> None:
    """Makes sure that a component answers in this process as it did where the run was planned.

    Args:
        place: Where the component is loaded.
        component: The model, or the live defense.
        identity: What its keys hold beside.
        data: What keys hold of the dataset.
        told: The identity of its behaviour; empty of one that nobody asks.
        spec: The dataset's spec.

    Raises:
        ContractError: It does not.
        LookupError: What it is compared with has gone from the store.
    """
    if not told or told.startswith(_RANDOM):
        return
    if isinstance(component, Defense) and place.registry.get("defenses", component.name).plugin.module != "__main__":
        return  # what a plugin's defense answers may depend on the memory that is left to a worker
    key = digest_of(_material(identity, data))
    thing = place.network(full(component)) if isinstance(component, Model) else component
    done = _confirmed.setdefault(place, set())
    if (key, told, id(thing)) in done:
        return
    label, known, images = f"{_kind(component)} {short(component)!r}", None, None
    if not told.startswith(_FAILS):
        record = place.store.read_record(KIND, key) or {"behaviours": []}
        known = next((one["answers"] for one in record["behaviours"] if one["id"] == told), None)
        if known is None:
            raise LookupError(f"what {label} answered when the run was planned has gone from the store; run it again")
        images = _images(record)
    found = _behaviour(place, component, _first(place.images(spec)) if images is None else images, 0)
    if found.error is not None:
        with blamed(label):
            raise found.error
    if known is None and found.values is None:
        return  # what it gives is for the checks of contracts to tell
    same = known is not None and found.values is not None and not found.random
    if not same or not behaviour.agree(behaviour.unpacked(known), found.values, found.coarse):  # type: ignore[arg-type]
        raise ContractError(
            f"{label} answers otherwise in a worker than where the run was planned; whatever it reads must be the same "
            "for all processes, and stay so while a run is under way"
        )
    done.add((key, told, id(thing)))


def _behaviour(place: Workspace, component: _Asked, images: torch.Tensor, classes: int) -> Behaviour:
    """Asks a component; the process is afterwards as it was.

    Raises:
        ContractError: The component changed it.
    """
    with stdout_kept(), process_kept() as before, threads_watched(lambda _: None):
        found = _asked(place, component, images, place.batch_size, classes)
        if found.error is not None and is_shortage(found.error):
            free_memory()
            found = _asked(place, component, images, 1, classes)
        changed = before.put_back()
    if changed:
        told = f"{_kind(component)} {short(component)!r} changed {' and '.join(changed)} for the whole process"
        taint_process(told)
        raise ContractError(told)
    return found


def _asked(place: Workspace, component: _Asked, images: torch.Tensor, batch_size: int, classes: int) -> Behaviour:
    if isinstance(component, Attack):  # on the processor: devices round otherwise, and what it hides is the same there
        return behaviour.ask(behaviour.attack_probe(component, classes), images, synthetic=False)
    try:
        if isinstance(component, Model):
            probe, coarse = behaviour.network_probe(place.network(full(component)), batch_size)
        else:
            probe, coarse = behaviour.defense_probe(component.apply), 0.0
    except (Exception, SystemExit) as error:
        return Behaviour(None, f"raises {type(error).__name__}", error)
    return behaviour.ask(probe, images.to(place.device), coarse)


def asked_in_worker(environment: Environment, kind: str, spec: str, images: torch.Tensor, classes: int) -> Behaviour:
    """Asks a component in a worker process; what it raised stays there."""
    place = workspace(environment)
    component: _Asked
    if kind == "attack":
        component = place.attack(spec)
    else:
        component = place.model(spec) if kind == "model" else place.chain(spec).parts[0]
    try:
        return dataclasses.replace(_behaviour(place, component, images, classes), error=None)
    except KeyboardInterrupt:  # nobody interrupts a worker but what it runs
        return Behaviour(None, "raises KeyboardInterrupt")


def _material(identity: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": SCHEMA, "kind": KIND, "component": dict(identity), "dataset": dict(data)}


def _kind(component: _Asked) -> str:
    return next(kind.__name__.lower() for kind in (Model, Defense, Attack) if isinstance(component, kind))


def _first(data: LabelledImages) -> torch.Tensor:
    """The dataset's first images."""
    return data.take(data.ids[:SAMPLES].tolist())[0]


def _packed(images: torch.Tensor) -> dict[str, Any]:
    levels = as_bytes(images.cpu())
    return behaviour.packed((images.cpu() if levels is None else levels).numpy())


def _images(record: Mapping[str, Any]) -> torch.Tensor:
    images = torch.from_numpy(behaviour.unpacked(record["images"]))
    return as_floats(images) if images.dtype == torch.uint8 else images
