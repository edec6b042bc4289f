"""What the runs of one command share: plugins, store, data, device, executor, messages."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

import torch

from advbench.api import Executor
from advbench.cli.session import CORE, data_sources, messages, open_registry, open_store, plugin_files, set_up_logging
from advbench.evaluation import THREAD_VARIABLES, Environment, pick_device
from advbench.store import Store

__all__ = ["Workbench"]


class Workbench:
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

    Raises:
        UsageError: Anything that was asked for cannot be used.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.console = messages()
        self.quiet = options.verbosity < 0
        set_up_logging(self.console, options.verbosity)
        self.registry = open_registry(options)
        self.store = open_store(options)
        self.sources = data_sources(options, self.console)
        self.environment = self._environment(pick_device(options.device))
        self.executor = self._executor()

    def say(self, line: str) -> None:
        """A message on stderr, unless quiet."""
        if not self.quiet:
            self.console.print(line, markup=False, soft_wrap=True)

    def keep_in(self, folder: Path) -> None:
        """Keeps results in another folder than the one that was asked for."""
        self.store = Store(folder)
        self.environment = dataclasses.replace(self.environment, store=folder)

    def _environment(self, device: str) -> Environment:
        options = self.options
        return Environment(
            store=self.store.root,
            cache_dir=self.sources.cache_dir,
            data_dir=self.sources.data_dir,
            device=device,
            batch_size=options.batch_size,
            threads=_threads(options.jobs),
            core=CORE,
            plugin_files=plugin_files(options),
            without=tuple(options.no_plugin),
        )

    def _executor(self) -> Executor:
        name = self.options.executor or ("processes" if self.options.jobs > 1 else "serial")
        executor = self.registry.get("executors", name).component()
        assert isinstance(executor, Executor)
        executor.check(self.options.jobs)
        return executor


def _threads(jobs: int) -> int | None:
    """CPU threads of each of several workers, together no more than one process would have.

    None leaves each process its own number: where there is one, and where the user's environment says it.
    """
    if jobs == 1 or any(os.environ.get(name) for name in THREAD_VARIABLES):
        return None
    return max(1, torch.get_num_threads() // jobs)
