"""Where and how tasks run: settings as plain data, and the components that each worker process keeps loaded."""

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
from advbench.contracts.models import check_logits, check_takes_rng
from advbench.contracts.network_unchanged import network_snapshot
from advbench.discovery.loading import discover
from advbench.discovery.registry import Registry
from advbench.errors import ContractError, ProcessChangedError, UsageError, describe
from advbench.evaluation.work.attacked.adaptive import forget_numbers
from advbench.evaluation.work.attacked.query_log import CleanBaseline
from advbench.evaluation.work.networks import LowPrecision
from advbench.option_names import option
from advbench.process.allocator import keep_freed_memory
from advbench.process.memory import limit_memory
from advbench.process.state import ProcessState
from advbench.specs import FLOAT32, Chain, resolve_chain, resolve_one
from advbench.store import Store

__all__ = [
    "THREAD_VARIABLES",
    "Environment",
    "Workspace",
    "device_name",
    "get_workspace",
    "pick_device",
    "set_workspace",
]


THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables by which users set the number of threads of a process."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """The settings of a worker. None of them changes any result.

    Attributes:
        store: Folder of the store.
        cache_dir: Folder of downloaded datasets.
        data_dir: The user's own datasets, or None.
        device: ``cpu``, ``cuda:N`` or ``mps``.
        batch_size: How many images a component gets at once.
        threads: CPU threads of a worker process; None for torch's default.
        memory: Bytes that a process may allocate after its start; None for no limit.
        timeout: Seconds that a task in a worker process may take; None for no limit.
        core: Modules of advbench that register components.
        plugin_files: Single files to load as plugins.
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
        """Where datasets may look; workers download nothing, since the driver has."""
        return DataSources(self.cache_dir, self.data_dir, download=False)


class Workspace:
    """The components and data that one process keeps loaded between tasks.

    Attributes:
        batch_size: The current batch size, which is smaller than the environment's if memory ran out.
        clean_baselines: Predictions and gradients of attacked classifiers on clean images, shared by all attacks; a few
            bytes for each sample.
        insets: Where attacks take the gradients of classifiers that have none at the bounds of [0, 1]: this far inside.
        undefended: What models without a defense predict for the samples that pages show, by the run's seed.
        thread_errors: Exceptions in threads that components started in the current task.
        process: The state of the process when the current task began.
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
        self._layers: dict[str, list[Any]] = {}
        self._states: dict[str, str] = {}
        self._buffers: dict[str, dict[str, str]] = {}
        self._expected: dict[tuple[str, str], tuple[str, int, bool]] = {}
        self.thread_errors: list[BaseException] = []
        self.process = ProcessState()
        self.clean_baselines: dict[tuple[Any, ...], CleanBaseline] = {}
        self.batch_memory: dict[tuple[str, str, str], Any] = {}
        self.insets: dict[tuple[Any, ...], float | None] = {}
        self.undefended: dict[int, Any] = {}
        forget_numbers()

    def images(self, spec: str) -> LabelledImages:
        """A dataset's images, loaded once."""
        if spec not in self._images:
            dataset = self.dataset(spec)
            self._images[spec] = check_dataset(dataset, dataset.load(self.environment.sources()))
        return self._images[spec]

    def dataset_digest(self, spec: str) -> str:
        """The digest of a dataset's content, computed once."""
        if spec not in self._digests:
            self._digests[spec] = self.dataset(spec).digest(self.environment.sources())
        return self._digests[spec]

    def network(self, spec: str) -> torch.nn.Module:
        """A model's network on the device, in eval mode and frozen, loaded once; its images and logits are float32.

        That of a stochastic model takes ``(images, rng)``: see :mod:`advbench.evaluation.work.networks`.
        """
        if spec not in self._networks:
            model = self.model(spec)
            network = model.load().to(self.device).eval()
            check_takes_rng(model, network)
            for parameter in network.parameters():  # ScriptModules have no requires_grad_ of their own
                parameter.requires_grad_(False)
            self._states[spec] = state_digest(network)
            self._buffers[spec] = _buffers(network)
            self._networks[spec] = Float32Network(network, f"model {model.name!r}", takes_rng=model.stochastic)
            self._layers[spec] = network_snapshot(self._networks[spec])
        return self._networks[spec]

    def attacked_network(self, spec: str, precision: str) -> torch.nn.Module:
        """The same network with the arithmetic in which it is attacked."""
        network = self.network(spec)
        return network if precision == FLOAT32 else LowPrecision(network)

    def check_network(self, spec: str, label: str, *, model_only: bool = False) -> None:
        """Checks that the network has not been changed; drops it if it has.

        Args:
            spec: The model's spec.
            label: The component that had access to the network.
            model_only: Whether that component had no access, so that only the model itself can have changed it.

        Raises:
            ContractError: The network has been changed.
        """
        network = self._networks[spec].network
        # What torch.jit.freeze returns has no such attribute.
        training = any(getattr(part, "training", False) for part in network.modules())
        if training or state_digest(network) != self._states[spec]:
            raise self._changed(spec, label, training=training, model_only=model_only)
        if network_snapshot(self._networks[spec]) != self._layers[spec]:
            del self._networks[spec]
            raise ContractError(
                f"{label}, or the model itself, changed hooks, methods or settings of the model's layers; "
                "work on a copy (copy.deepcopy), or set them when the model is loaded"
            )

    def _changed(self, spec: str, label: str, *, training: bool, model_only: bool) -> ContractError:
        """Drops a network whose state has changed, and says which part of it."""
        network = self._networks.pop(spec).network
        changed = [name for name, digest in _buffers(network).items() if self._buffers[spec].get(name) != digest]
        if changed and not training:
            names = ", ".join(repr(name) for name in changed)
            author = "the model's own forward" if model_only else f"{label}, or the model's own forward,"
            return ContractError(
                f"{author} changed the model's buffer {names}; a network must not change from image to image, so its "
                "forward must not count or average in eval mode"
            )
        author = "the model itself" if model_only else f"{label}, or the model itself,"
        return ContractError(f"{author} changed the model's weights or put it in training mode")

    def forget_changed_networks(self) -> None:
        """Drops the networks that a component has changed before it failed."""
        for spec in list(self._networks):
            with contextlib.suppress(ContractError):
                self.check_network(spec, "")

    def check_process(self, label: str) -> None:
        """Checks that no component of this task has changed the process, and that no thread of it has raised anything.

        Raises:
            ContractError: A thread raised an exception.
            ProcessChangedError: A component changed the process, which is restored.
        """
        changes = self.process.restore()
        if changes:
            raise ProcessChangedError(changes)
        self.process.restored = True  # no component runs after this
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
        """How many logits a model returns: as many as it declares, or else at least the dataset's number of classes."""
        declared = self.model(model).num_classes
        return self.dataset(dataset).num_classes if declared is None else declared

    def check_output(
        self, model: str, dataset: str, output: object, count: int, *, labels_only: bool = False
    ) -> torch.Tensor:
        """Checks what a model returned for so many images of a dataset; see :func:`check_logits`."""
        if (model, dataset) not in self._expected:
            component = self.model(model)
            self._expected[model, dataset] = (
                component.name,
                self.classes(model, dataset),
                component.num_classes is None,
            )
        name, classes, more = self._expected[model, dataset]
        return check_logits(name, output, count, classes, more=more, labels_only=labels_only)

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
    digests = {}
    for name, buffer in network.named_buffers():
        holder = torch.nn.Module()
        holder.register_buffer("kept", buffer)
        digests[name] = state_digest(holder)
    return digests


_current: Workspace | None = None


def set_workspace(environment: Environment, registry: Registry, images: Mapping[str, LabelledImages]) -> None:
    """Lets tasks in this process use the plugins that are already loaded, and datasets by their full specs."""
    global _current  # noqa: PLW0603  a task is plain data and cannot carry what is loaded
    keep_freed_memory()
    _current = Workspace(environment, registry, images)


def get_workspace(environment: Environment) -> Workspace:
    """This process's workspace; a worker process loads the plugins for it."""
    global _current  # noqa: PLW0603
    if _current is None or _current.environment != environment:
        if environment.threads is not None:
            torch.set_num_threads(environment.threads)
            for name in THREAD_VARIABLES:  # libraries that plugins load read these
                os.environ[name] = str(environment.threads)
        keep_freed_memory()
        if environment.memory is not None:
            limit_memory(environment.memory)
        _current = Workspace(
            environment, discover(environment.core, environment.plugin_files, without=environment.without)
        )
    return _current


def device_name(device: str) -> str | None:
    """A device with its hardware, such as ``cuda:0 (NVIDIA H100)``; None if this process sees no such device."""
    if device == "cpu":
        return device
    if device == "mps":
        return device if torch.backends.mps.is_available() else None
    number = torch.device(device).index or 0
    if not torch.cuda.is_available() or number >= torch.cuda.device_count():
        return None
    return f"{device} ({torch.cuda.get_device_name(number)})"


def pick_device(wanted: str) -> str:
    """Turns ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` into an available device.

    ``auto`` is the first CUDA device, else the CPU. It is never ``mps``, where distances are rounded to float32.

    Raises:
        UsageError: There is no such device.
    """
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == "auto" and not available):
        return "cpu"
    if wanted == "mps":
        if torch.backends.mps.is_available():
            return wanted
        raise UsageError(
            f"{option('device', wanted)}: torch sees no GPU of a Mac here; use {option('device', 'cpu')} or auto"
        )
    if wanted in ("auto", "cuda"):
        wanted = "cuda:0"
    number = wanted.removeprefix("cuda:")
    if wanted == number or not number.isdigit():
        raise UsageError(f"{option('device', wanted)}: must be auto, cpu, cuda, cuda:N or mps")
    if int(number) >= available:
        there = f"there are cuda:0 to cuda:{available - 1}" if available else "torch sees no CUDA device here"
        raise UsageError(f"{option('device', wanted)}: {there}; use {option('device', 'cpu')} or auto")
    return wanted
