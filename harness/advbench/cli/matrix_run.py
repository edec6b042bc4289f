"""What ``advbench matrix`` does, step by step."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import Counter
from typing import Any, TextIO

import torch

from advbench.analysis import build_results
from advbench.api import Executor, LabelledImages
from advbench.cli.progress import MatrixProgress, in_words
from advbench.cli.session import CORE, data_sources, messages, open_registry, open_store, set_up_logging, tables
from advbench.cli.suite_flags import CUSTOM, recipe, suite_of
from advbench.errors import UsageError, describe
from advbench.matrix import (
    Environment,
    Estimate,
    Plan,
    Todo,
    adopt,
    build_plan,
    check_dataset,
    estimate,
    make_manifest,
    pick_device,
    resolve_axes,
    run_todo,
    survey,
)
from advbench.report import plan_exports, print_results, write_export
from advbench.specs import full_spec, short_spec

__all__ = ["MatrixRun"]


class MatrixRun:
    """One call of the command: checks everything first, then computes, then reports.

    Args:
        options: What was typed.
        stdout: Where the board goes.

    Raises:
        UsageError: Anything that was asked for cannot be used; raised before any work.
    """

    def __init__(self, options: argparse.Namespace, stdout: TextIO) -> None:
        self.options = options
        self.tables = tables(stdout)
        self.console = messages()
        self.quiet = options.verbosity < 0
        set_up_logging(self.console, options.verbosity)
        self.suite = suite_of(options)
        self.registry = open_registry(options)
        self.exports = plan_exports(self.registry, options.export, self.suite.name)
        self.store = open_store(options)
        self.sources = data_sources(options, self.console)
        self.environment = self._environment(pick_device(options.device))
        axes = resolve_axes(self.registry, self.suite)
        self.executor = self._executor()
        self.plan = build_plan(axes, self.sources, self.environment.device)
        if all(cell.skipped for cell in self.plan.cells):
            raise UsageError(f"no cell can be run: {self.plan.cells[0].skipped}")
        if not options.dry_run:
            self.store.check_writable()

    def run(self) -> int:
        """Runs it and returns the exit code."""
        todo = survey(self.plan, self.store, self.options.rerun)
        if self.suite.description and self.suite.name != CUSTOM:
            self._say(f"{self.suite.name}: {self.suite.description}")
        self._say(_size(self.plan, todo))
        if self.options.dry_run:
            self._print_dry_run(todo)
            return 0
        images = self._load_datasets() if todo.jobs else {}
        manifest = self._write_manifest()
        records = dict(todo.cached)
        if not todo.jobs:
            self._say(f"all {len(self.plan.cells)} cells come from the store {self.store.root}")
        else:
            self._compute(todo, images, records)
        results = build_results(manifest, records)
        for export in self.exports:
            write_export(export, results)
            self._say(f"wrote {export.path}")
        with contextlib.suppress(BrokenPipeError):  # whoever read the board has gone; all is done and written
            print_results(self.tables, results)
        return int(any(cell["status"] == "error" for cell in results["cells"]))

    def _load_datasets(self) -> dict[str, LabelledImages]:
        """Reads, and where needed downloads, the datasets before any work.

        One that breaks its contract is left to its cells, which fail with what it raises.
        """
        loaded = {}
        for dataset in dict.fromkeys(cell.dataset for cell in self.plan.cells if cell.key):
            try:
                loaded[full_spec(dataset)] = check_dataset(dataset, dataset.load(self.sources))
            except UsageError:  # noqa: PERF203  a handful of datasets
                raise
            except (Exception, SystemExit) as error:
                self._say(f"dataset {dataset.name!r} cannot be read: {describe(error)}")
        return loaded

    def _write_manifest(self) -> dict[str, Any]:
        manifest = make_manifest(
            self.plan,
            self.registry,
            self.environment,
            name=self.suite.name,
            command=recipe(self.options),
            before=self.store.read_manifest(self.plan.run_id),
        )
        self.store.write_manifest(self.plan.run_id, manifest)
        return manifest

    def _compute(self, todo: Todo, images: dict[str, LabelledImages], records: dict[str, dict[str, Any]]) -> None:
        """Does what is left, adding to the records."""
        adopt(self.environment, self.registry, images)
        began = time.monotonic()
        try:
            expected = estimate(todo, self.environment)
            self._say(self._forecast(expected))
            progress = MatrixProgress(self.console, todo, expected, records, len(self.plan.cells), quiet=self.quiet)
            with progress:
                run_todo(
                    todo,
                    self.environment,
                    self.executor,
                    self.options.jobs,
                    progress,
                    fail_fast=self.options.fail_fast,
                )
        except KeyboardInterrupt:
            done = sum(record["status"] == "ok" for record in records.values())
            raise KeyboardInterrupt(f"{done} of {len(self.plan.cells)} cells are done and kept") from None
        self._say(f"finished in {in_words(time.monotonic() - began)}")

    def _forecast(self, expected: Estimate) -> str:
        jobs, device = self.options.jobs, self.environment.device
        seconds = expected.seconds / jobs
        how = "at a guess" if expected.rough else "about" if seconds >= 1 else ""
        where = device if device != "cpu" else f"{self.environment.threads or torch.get_num_threads()} CPU threads"
        workers = f" in each of {jobs} workers" if jobs > 1 else ""
        return f"this will take {how} {in_words(seconds)} on {where}{workers}".replace("  ", " ")

    def _environment(self, device: str) -> Environment:
        options = self.options
        return Environment(
            store=self.store.root,
            cache_dir=self.sources.cache_dir,
            data_dir=self.sources.data_dir,
            device=device,
            batch_size=options.batch_size,
            threads=max(1, torch.get_num_threads() // options.jobs) if options.jobs > 1 else None,
            core=CORE,
            plugin_files=tuple(options.plugin),
        )

    def _executor(self) -> Executor:
        name = self.options.executor or ("processes" if self.options.jobs > 1 else "serial")
        executor = self.registry.get("executors", name).component()
        assert isinstance(executor, Executor)
        executor.check(self.options.jobs)
        return executor

    def _print_dry_run(self, todo: Todo) -> None:
        for cell in self.plan.cells:
            state = "skipped" if cell.skipped else "fails" if cell.failed else "to do"
            state = "stored" if cell.key in todo.cached else state
            self.tables.print(f"{state:<8}{cell.label()}", markup=False, soft_wrap=True)

    def _say(self, line: str) -> None:
        if not self.quiet:
            self.console.print(line, markup=False, soft_wrap=True)


def _size(plan: Plan, todo: Todo) -> str:
    """How large a plan is, and how much of it is there."""
    axes = plan.axes
    counts = (
        (len(axes.datasets), "dataset"),
        (len(axes.models), "model"),
        (len(axes.attacks), "attack"),
        (len(axes.defenses), "defense"),
        (len(axes.threats), "threat"),
    )
    product = " × ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
    samples = Counter({short_spec(cell.dataset): len(cell.ids) for cell in plan.cells if not cell.skipped})
    images = ", ".join(f"{count:,} images of {name}" for name, count in samples.items())
    skipped = sum(bool(cell.skipped) for cell in plan.cells)
    failed = sum(bool(cell.failed) for cell in plan.cells)
    to_do = len(plan.cells) - skipped - failed - len(todo.cached)
    states = f"{len(todo.cached)} in the store, {to_do} to do" + (f", {skipped} skipped" if skipped else "")
    states += f", {failed} cannot be run" if failed else ""
    return f"{product} = {len(plan.cells)} cells on {images}; {states}"
