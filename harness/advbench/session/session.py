"""What the runs of one command share: plugins, store, data, device, executor, messages."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from advbench.api import Executor
from advbench.errors import UsageError
from advbench.evaluation.work.behaviour.stored import StoredBehaviours
from advbench.evaluation.work.workspace import THREAD_VARIABLES, Environment, pick_device
from advbench.process.memory import memory_per_worker
from advbench.session.opening import (
    CORE,
    data_sources,
    messages,
    open_registry,
    open_store,
    plugin_files,
    set_up_logging,
)
from advbench.store import Store

__all__ = ["Session"]


class Session:
    """Everything but the suite.

    Args:
        options: What was typed.

    Attributes:
        console: stderr.
        quiet: Whether messages are left out.
        registry: The components there are.
        store: Where results are kept.
        sources: Where datasets may look.
        environment: Where and how tasks run.
        executor: What runs them.
        live: The names of components that are in this process alone, and in no plugin.
        gpus: How many GPUs its workers share; 0 where they use none, or the one that was asked for.

    Raises:
        UsageError: Anything that was asked for cannot be used.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.console = messages()
        self.quiet = options.verbosity < 0
        self._said: set[str] = set()
        set_up_logging(self.console, options.verbosity)
        self.registry = open_registry(options)
        self.store = open_store(options)
        self.sources = data_sources(options, self.console)
        self.executor = self._executor()
        device = self._device()
        self.gpus = self._gpus(device)
        self.environment = self._environment(device)
        self.live: list[str] = []
        self._answers: StoredBehaviours | None = None

    def answers(self) -> StoredBehaviours:
        """Who asks networks what they answer, and knows what they answered when stored results were made."""
        if self._answers is None:
            self._answers = StoredBehaviours(
                self.environment,
                self.registry,
                self.sources,
                self.executor,
                read_only=getattr(self.options, "dry_run", False),
                memory_limited=getattr(self.options, "memory", None) is not None,
            )
        return self._answers

    def tell_answers(self) -> None:
        """Says which networks answer otherwise than they did, or at random; once."""
        if self._answers is not None:
            for note in self._answers.notes:
                self.say(note)
            self._answers.notes.clear()

    def say(self, line: str) -> None:
        """A message on stderr, unless quiet."""
        if not self.quiet:
            self.console.print(line, markup=False, soft_wrap=True)

    def say_once(self, line: str) -> None:
        """A message that several runs of one command have in common."""
        if line not in self._said:
            self._said.add(line)
            self.say(line)

    def keep_in(self, folder: Path) -> None:
        """Keeps results in another folder than the one that was asked for."""
        self.store = Store(folder)
        self._answers = None
        self.environment = dataclasses.replace(self.environment, store=folder.absolute())

    def _executor(self) -> Executor:
        options = self.options
        if options.scheduler == "":
            raise UsageError("--scheduler is empty; give the address that 'dask scheduler' prints, or leave it out")
        workers = options.jobs > 1 or options.cell_timeout is not None
        name = options.executor or ("dask" if options.scheduler else "processes" if workers else "serial")
        component = self.registry.get("executors", name).component
        given: dict[str, Any] = {}
        if options.scheduler:
            if "scheduler" not in {parameter.name for parameter in component.parameters()}:
                raise UsageError(f"--scheduler: the executor {name!r} has none; use --executor dask")
            given["scheduler"] = options.scheduler
        executor = component(**given)
        assert isinstance(executor, Executor)
        if options.cell_timeout is not None and executor.in_process:
            raise UsageError(
                f"--cell-timeout: the executor {name!r} runs tasks in this process, where nothing can end them; "
                "use --executor processes"
            )
        executor.check(options.jobs)
        return executor

    def _device(self) -> str:
        """Where to compute; the GPUs of a cluster need not be here."""
        if self.options.scheduler and self.options.device.startswith("cuda"):
            return "cuda:0" if self.options.device == "cuda" else str(self.options.device)
        return pick_device(self.options.device)

    def _gpus(self, device: str) -> int:
        if self.executor.in_process or device == "cpu" or self.options.device not in ("auto", "cuda"):
            return 0
        return max(1, torch.cuda.device_count())

    def _environment(self, device: str) -> Environment:
        options, here = self.options, not self.options.scheduler
        return Environment(
            store=self.store.root.absolute(),  # workers may be in other folders
            cache_dir=self.sources.cache_dir.absolute(),
            data_dir=self.sources.data_dir and self.sources.data_dir.absolute(),
            device=device,
            batch_size=options.batch_size,
            threads=_threads(options.jobs) if here else None,
            memory=(options.memory or (memory_per_worker(options.jobs) if here else None)) if device == "cpu" else None,
            timeout=options.cell_timeout,
            core=CORE,
            # What has changed this process while it was loaded is not loaded in others.
            plugin_files=tuple(file for file in plugin_files(options) if str(file) not in self.registry.withdrawn),
            without=(*options.no_plugin, *self.registry.withdrawn),
        )


def _threads(jobs: int) -> int | None:
    """CPU threads of each of several workers, together no more than one process would have.

    None leaves each process its own number: where there is one, and where the user's environment says it.
    """
    if jobs == 1 or any(os.environ.get(name) for name in THREAD_VARIABLES):
        return None
    return max(1, torch.get_num_threads() // jobs)
