"""Where and how tasks run: plain data for any worker, and what each worker process keeps loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from advbench.api import Attack, Dataset, DataSources, Float32Network, LabelledImages, Model, state_digest
from advbench.contracts.datasets import check_dataset
from advbench.contracts.models import check_logits
from advbench.discovery.loading import discover
from advbench.discovery.registry import Registry
from advbench.errors import ContractError, ProcessChangedError, UsageError, describe
from advbench.evaluation.work.precision import LowPrecision
from advbench.evaluation.work.query_log import CleanBaseline
from advbench.process.allocator import keep_freed_memory
from advbench.process.layers import wiring
from advbench.process.memory import hold_memory
from advbench.process.state import ProcessState
from advbench.specs import FLOAT32, Chain, resolve_chain, resolve_one
from advbench.store import Store

__all__ = ["THREAD_VARIABLES", "Environment", "Workspace", "adopt", "device_name", "pick_device", "workspace"]


THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables by which users say how many threads a process takes."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """What a worker must know beside its task. None of it changes any result.

    Attributes:
        store: Folder of the store.
        cache_dir: Folder of downloaded datasets.
        data_dir: The user's own datasets, or None.
        device: ``cpu`` or ``cuda:N``.
        batch_size: How many images go through a component at once.
        threads: CPU threads of a worker process, or None to leave torch's own number.
        memory: Bytes that a process may take beside what it takes when it begins, or None for any number.
        timeout: Seconds that a task in a worker process may take, or None for any number.
        core: Modules of advbench that register components.
        plugin_files: Single files loaded as plugins.
        without: Plugins or distributions that are not loaded.
    """

    store: Path
    cache_dir: Path
    data_dir: Path | None
    device: str
    batch_size: int
    threads: int | None = None
    memory: int | None = None
    timeout: float | None = None
    core: tuple[str, ...] = ()
    plugin_files: tuple[Path, ...] = ()
    without: tuple[str, ...] = ()

    def sources(self) -> DataSources:
        """Where datasets may look; workers download nothing, since the driver has done so."""
        return DataSources(self.cache_dir, self.data_dir, download=False)


class Workspace:
    """What one process keeps loaded between tasks.

    Attributes:
        batch_size: How many images go through a component at once now: fewer, where memory does not suffice.
        unattacked: What the attacked classifiers say of clean images, which all attacks on them share; a few bytes
            a sample.
        insets: How far inside [0, 1] attacks take the gradients of classifiers that have none at the bounds.
        thread_errors: What threads have raised that components started in the current task.
        process: The settings of the process when the current task began.
    """

    def __init__(
        self, environment: Environment, registry: Registry, images: Mapping[str, LabelledImages] | None = None
    ) -> None:
        self.environment = environment
        self.batch_size = environment.batch_size
        self.registry = registry
        self.store = Store(environment.store)
        self.device = torch.device(environment.device)
        self._images = dict(images or {})
        self._digests: dict[str, str] = {}
        self._networks: dict[str, Float32Network] = {}
        self._wirings: dict[str, list[Any]] = {}
        self._states: dict[str, str] = {}
        self._buffers: dict[str, dict[str, str]] = {}
        self._expected: dict[tuple[str, str], tuple[str, int, bool]] = {}
        self.thread_errors: list[BaseException] = []
        self.process = ProcessState.now()
        self.unattacked: dict[tuple[Any, ...], CleanBaseline] = {}
        self.insets: dict[tuple[Any, ...], float | None] = {}

    def images(self, spec: str) -> LabelledImages:
        """A dataset's images, read once."""
        if spec not in self._images:
            dataset = self.dataset(spec)
            self._images[spec] = check_dataset(dataset, dataset.load(self.environment.sources()))
        return self._images[spec]

    def dataset_digest(self, spec: str) -> str:
        """The digest of a dataset's content, told once."""
        if spec not in self._digests:
            self._digests[spec] = self.dataset(spec).digest(self.environment.sources())
        return self._digests[spec]

    def network(self, spec: str) -> torch.nn.Module:
        """A model's network on the device, in eval mode and frozen, built once; its images and logits are float32."""
        if spec not in self._networks:
            model = self.model(spec)
            network = model.load().to(self.device).eval()
            for parameter in network.parameters():  # ScriptModules have no requires_grad_ of their own
                parameter.requires_grad_(False)
            self._states[spec] = state_digest(network)
            self._buffers[spec] = _buffers(network)
            self._networks[spec] = Float32Network(network, f"model {model.name!r}")
            self._wirings[spec] = wiring(self._networks[spec])
        return self._networks[spec]

    def attacked_network(self, spec: str, precision: str) -> torch.nn.Module:
        """The same network with the arithmetic that it is attacked in."""
        network = self.network(spec)
        return network if precision == FLOAT32 else LowPrecision(network)

    def check_network(self, spec: str, label: str, *, nobody: bool = False) -> None:
        """Forgets the network when it has been changed.

        Args:
            spec: The model's.
            label: The component that was given the network.
            nobody: Whether that component cannot have changed it, since it was not given it.

        Raises:
            ContractError: The network is another than when it was loaded.
        """
        network = self._networks[spec].network
        # What torch.jit.freeze returns has no such attribute.
        training = any(getattr(part, "training", False) for part in network.modules())
        if training or state_digest(network) != self._states[spec]:
            raise self._changed(spec, label, training=training, nobody=nobody)
        if wiring(self._networks[spec]) != self._wirings[spec]:
            del self._networks[spec]
            raise ContractError(
                f"{label}, or the model itself, changed hooks, methods or settings of the model's layers; "
                "work on a copy (copy.deepcopy), or set them when the model is loaded"
            )

    def _changed(self, spec: str, label: str, *, training: bool, nobody: bool) -> ContractError:
        """Forgets a network whose state has changed; says what of it did."""
        network = self._networks.pop(spec).network
        changed = [name for name, digest in _buffers(network).items() if self._buffers[spec].get(name) != digest]
        if changed and not training:
            names = ", ".join(repr(name) for name in changed)
            who = "the model's own forward" if nobody else f"{label}, or the model's own forward,"
            return ContractError(
                f"{who} changed the model's buffer {names}; a network must be as it was after each image, so let no "
                "forward count or average in eval mode"
            )
        who = "the model itself" if nobody else f"{label}, or the model itself,"
        return ContractError(f"{who} changed the model's weights or put it in training mode")

    def forget_changed_networks(self) -> None:
        """Lets nothing more use the networks that a component has changed before it failed."""
        for spec in list(self._networks):
            with contextlib.suppress(ContractError):
                self.check_network(spec, "")

    def check_process(self, label: str) -> None:
        """Raises ContractError when a component of this task changed the process, or its thread raised something.

        Raises:
            ProcessChangedError: It changed the process, which is put back.
        """
        changed = self.process.put_back()
        if changed:
            raise ProcessChangedError(changed)
        self.process.settled = True  # nothing of a component's runs any more
        if self.thread_errors:
            raise ContractError(f"{label}: a thread that it started raised {describe(self.thread_errors[0])}")

    def dataset(self, spec: str) -> Dataset:
        """The dataset of a spec."""
        dataset = resolve_one(self.registry, "datasets", spec)
        assert isinstance(dataset, Dataset)
        return dataset

    def model(self, spec: str) -> Model:
        """The model of a spec."""
        model = resolve_one(self.registry, "models", spec)
        assert isinstance(model, Model)
        return model

    def classes(self, model: str, dataset: str) -> int:
        """How many logits a model gives: as many as it says, or else at least as many as the dataset has classes."""
        told = self.model(model).num_classes
        return self.dataset(dataset).num_classes if told is None else told

    def check_answer(
        self, model: str, dataset: str, answer: object, count: int, *, labels_only: bool = False
    ) -> torch.Tensor:
        """What a model answered to so many images of a dataset, held to its contract; see :func:`check_logits`."""
        if (model, dataset) not in self._expected:
            known = self.model(model)
            self._expected[model, dataset] = known.name, self.classes(model, dataset), known.num_classes is None
        name, classes, more = self._expected[model, dataset]
        return check_logits(name, answer, count, classes, more=more, labels_only=labels_only)

    def attack(self, spec: str) -> Attack:
        """The attack of a spec."""
        attack = resolve_one(self.registry, "attacks", spec)
        assert isinstance(attack, Attack)
        return attack

    def chain(self, spec: str) -> Chain:
        """The defense of a spec."""
        return resolve_chain(self.registry, spec)[0]


def _buffers(network: torch.nn.Module) -> dict[str, str]:
    """The digests of a network's buffers by their names."""
    found = {}
    for name, buffer in network.named_buffers():
        holder = torch.nn.Module()
        holder.register_buffer("kept", buffer)
        found[name] = state_digest(holder)
    return found


_current: Workspace | None = None


def adopt(environment: Environment, registry: Registry, images: Mapping[str, LabelledImages]) -> None:
    """Lets tasks in this process use what is already loaded: plugins, and datasets by their full specs."""
    global _current  # noqa: PLW0603  a task is plain data and cannot carry what is loaded
    keep_freed_memory()
    _current = Workspace(environment, registry, images)


def workspace(environment: Environment) -> Workspace:
    """This process's workspace; a worker process loads the plugins itself."""
    global _current  # noqa: PLW0603
    if _current is None or _current.environment != environment:
        if environment.threads is not None:
            torch.set_num_threads(environment.threads)
            for name in THREAD_VARIABLES:  # libraries that plugins load read these
                os.environ[name] = str(environment.threads)
        keep_freed_memory()
        if environment.memory is not None:
            hold_memory(environment.memory)
        _current = Workspace(
            environment, discover(environment.core, environment.plugin_files, without=environment.without)
        )
    return _current


def device_name(device: str) -> str | None:
    """A device and what it is, such as ``cuda:0 (NVIDIA H100)``; None where this process sees no such device."""
    if device == "cpu":
        return device
    number = torch.device(device).index or 0
    if not torch.cuda.is_available() or number >= torch.cuda.device_count():
        return None
    return f"{device} ({torch.cuda.get_device_name(number)})"


def pick_device(wanted: str) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` to a device that is there.

    Raises:
        UsageError: There is no such device.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and not available):
        return "cpu"
    if wanted in ("auto", "cuda"):
        wanted = "cuda:0"
    number = wanted.removeprefix("cuda:")
    if wanted == number or not number.isdigit():
        raise UsageError(f"--device {wanted}: must be auto, cpu or cuda:N")
    if int(number) >= available:
        there = f"there are cuda:0 to cuda:{available - 1}" if available else "torch sees no CUDA device here"
        raise UsageError(f"--device {wanted}: {there}; use --device cpu or auto")
    return wanted
