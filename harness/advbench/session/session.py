"""What the runs of one command share: plugins, store, data, device, executor and messages."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from advbench.api import Executor
from advbench.errors import UsageError
from advbench.evaluation.work.behaviour.stored import StoredBehaviours
from advbench.evaluation.work.workspace import THREAD_VARIABLES, Environment, pick_device
from advbench.option_names import option
from advbench.process.memory import memory_per_worker
from advbench.session.opening import (
    CORE,
    data_sources,
    find_suite,
    messages,
    open_registry,
    open_store,
    plugin_files,
    print_line,
    set_up_logging,
)
from advbench.session.options import RunOptions
from advbench.specs import DEFAULT_SUITE
from advbench.store import Store

__all__ = ["Session"]


class Session:
    """What one command, or one call of the Python API, opens once and all its runs share.

    Args:
        options: What the user asked for.

    Attributes:
        options: What the user asked for.
        console: stderr.
        quiet: Whether messages are left out.
        suite: The suite of the options as its file has it, before other options replace parts of it.
        plugin_files: The single files that are loaded as plugins.
        registry: The registered components.
        store: The store of results.
        sources: Where datasets are searched.
        environment: Where and how tasks run.
        executor: What runs the tasks.
        live: Names of components that exist in this process only and that no plugin registers.
        gpus: How many GPUs the workers share; 0 if they use none, or one that the user chose.

    Raises:
        UsageError: An option cannot be used.
    """

    def __init__(self, options: RunOptions) -> None:
        self.options = options
        self.console = messages()
        self.quiet = options.verbosity < 0
        self._shown_once: set[str] = set()
        set_up_logging(self.console, options.verbosity)
        self.suite = find_suite(options.suite or DEFAULT_SUITE, options)
        self.plugin_files = plugin_files((*self.suite.plugins, *options.plugin))
        self.registry = open_registry(options, self.plugin_files)
        self.store = open_store(options)
        self.sources = data_sources(options, self.console)
        self.executor = self._executor()
        device = self._device()
        self.gpus = self._gpus(device)
        self.environment = self._environment(device)
        self.live: list[str] = []
        self._answers: StoredBehaviours | None = None

    def answers(self) -> StoredBehaviours:
        """Asks networks for their answers and compares these with the answers behind stored results."""
        if self._answers is None:
            self._answers = StoredBehaviours(
                self.environment,
                self.registry,
                self.sources,
                self.executor,
                read_only=self.options.dry_run,
                memory_limited=self.options.memory is not None,
            )
        return self._answers

    def report_answers(self) -> None:
        """Reports, once, which networks answer differently from before or at random."""
        if self._answers is not None:
            for note in self._answers.notes:
                self.say(note)
            self._answers.notes.clear()

    def say(self, line: str) -> None:
        """Prints a message on stderr, unless quiet."""
        if not self.quiet:
            print_line(self.console, line)

    def say_once(self, line: str) -> None:
        """Prints a message, unless an earlier run of the same command has printed it."""
        if line not in self._shown_once:
            self._shown_once.add(line)
            self.say(line)

    def keep_in(self, folder: Path) -> None:
        """Replaces the store by one in another folder."""
        self.store = Store(folder)
        self._answers = None
        self.environment = dataclasses.replace(self.environment, store=folder.absolute())

    def _executor(self) -> Executor:
        options = self.options
        if options.scheduler == "":
            raise UsageError(
                f"{option('scheduler')} is empty; give the address that 'dask scheduler' prints, or leave it out"
            )
        workers = options.jobs > 1 or options.cell_timeout is not None
        name = options.executor or ("dask" if options.scheduler else "processes" if workers else "serial")
        component = self.registry.get("executors", name).component
        parameters: dict[str, Any] = {}
        if options.scheduler:
            if "scheduler" not in {parameter.name for parameter in component.parameters()}:
                raise UsageError(
                    f"{option('scheduler')}: the executor {name!r} has none; use {option('executor', 'dask')}"
                )
            parameters["scheduler"] = options.scheduler
        executor = component(**parameters)
        assert isinstance(executor, Executor)
        if options.cell_timeout is not None and executor.in_process:
            raise UsageError(
                f"{option('cell_timeout')}: the executor {name!r} runs tasks in this process, where they cannot be "
                f"stopped; use {option('executor', 'processes')}"
            )
        executor.check(options.jobs)
        return executor

    def _device(self) -> str:
        """Where to compute. The GPUs of a cluster need not exist on this machine."""
        if self.options.scheduler and self.options.device.startswith(("cuda", "mps")):
            return "cuda:0" if self.options.device == "cuda" else self.options.device
        return pick_device(self.options.device)

    def _gpus(self, device: str) -> int:
        if self.executor.in_process or not device.startswith("cuda") or self.options.device not in ("auto", "cuda"):
            return 0
        import torch

        return max(1, torch.cuda.device_count())

    def _environment(self, device: str) -> Environment:
        options, local = self.options, not self.options.scheduler
        default_memory = memory_per_worker(options.jobs) if local else None
        return Environment(
            store=self.store.root.absolute(),  # workers may have another working directory
            cache_dir=self.sources.cache_dir.absolute(),
            data_dir=self.sources.data_dir and self.sources.data_dir.absolute(),
            device=device,
            batch_size=options.batch_size,
            threads=_threads(options.jobs) if local else None,
            memory=(options.memory or default_memory) if device == "cpu" else None,
            timeout=options.cell_timeout,
            core=CORE,
            # Plugins that changed this process while they loaded are not loaded in workers.
            plugin_files=tuple(file for file in self.plugin_files if str(file) not in self.registry.withdrawn),
            without=(*options.no_plugin, *self.registry.withdrawn),
        )


def _threads(jobs: int) -> int | None:
    """CPU threads of each worker, so that all workers together use no more threads than one process would.

    None leaves the number as it is: for a single job, and where the user's environment sets it.
    """
    if jobs == 1 or any(os.environ.get(name) for name in THREAD_VARIABLES):
        return None
    import torch

    return max(1, torch.get_num_threads() // jobs)
