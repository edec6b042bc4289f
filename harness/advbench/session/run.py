"""What ``advbench matrix`` does, step by step; a suite's run is what other commands do too."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from advbench.analysis import Summary, build_results, combine_seeds
from advbench.api import LabelledImages
from advbench.contracts.datasets import check_dataset
from advbench.errors import UsageError, describe
from advbench.evaluation.plan.build import Plan, build_plan, resolve_axes
from advbench.evaluation.plan.cells import Axes
from advbench.evaluation.plan.doubled_steps import double_steps
from advbench.evaluation.plan.threats import ADAPTIVE
from advbench.evaluation.run.dataset_facts import dataset_notes
from advbench.evaluation.run.disk_space import check_disk_space
from advbench.evaluation.run.estimate import Estimate, estimate
from advbench.evaluation.run.manifest import make_manifest
from advbench.evaluation.run.pool import WorkerPool
from advbench.evaluation.run.schedule import Schedule, build_schedule
from advbench.evaluation.run.scheduler import run_schedule
from advbench.evaluation.work.behaviour.culprits import build_checked_plan
from advbench.evaluation.work.example_images import ExampleImages
from advbench.evaluation.work.workspace import Workspace, device_name, set_workspace
from advbench.process.memory import memory_limit
from advbench.process.state import undo_process_changes
from advbench.report import plan_exports, print_leaderboards, write_export
from advbench.session.opening import tables
from advbench.session.page_details import SAMPLES, detailed
from advbench.session.progress import MatrixProgress, in_words
from advbench.session.session import Session
from advbench.session.suites import CUSTOM, recipe, suite_of
from advbench.specs import FLOAT32, Suite, full_spec, short_spec

__all__ = ["MatrixRun", "run_matrix", "suites_by_seed"]


def run_matrix(options: argparse.Namespace, stdout: TextIO) -> int:
    """One call of the command: checks everything first, then computes, then reports.

    Args:
        options: What was typed.
        stdout: Where the board goes.

    Raises:
        UsageError: Anything that was asked for cannot be used; raised before any work.
    """
    session = Session(options)
    suite = suite_of(options, session.registry)
    exports = plan_exports(session.registry, options.export, suite.name)
    runs = [MatrixRun(session, one, command) for one, command in suites_by_seed(suite, options)]
    console = tables(stdout)
    if options.dry_run:
        for run in runs:
            run.announce()
            run.print_dry_run(console)
        return 0
    session.store.check_writable()
    found = []
    for run in runs:
        if len(runs) > 1:
            session.say(f"seed {run.plan.seed}")
        run.announce()
        found.append(run.results())
    results = combine_seeds(found, recipe(options))
    told = detailed(results, exports, session.store, runs[0].manifest, runs[0].examples())
    for export in exports:
        write_export(export, told)
        session.say(f"wrote {export.path}")
    with contextlib.suppress(BrokenPipeError):  # whoever read the board has gone; all is done and written
        print_leaderboards(console, results, options.format)
    return int(any(cell["status"] == "error" for cell in results["cells"]))


def suites_by_seed(suite: Suite, options: argparse.Namespace) -> list[tuple[Suite, str]]:
    """The suite with each of the seeds that were asked for, and the command that runs it with that one."""
    if not options.seeds:
        return [(suite, recipe(options))]
    if options.seed is not None:
        raise UsageError("--seed and --seeds: give one of them")
    twice = [seed for seed in options.seeds if options.seeds.count(seed) > 1]
    if twice:
        raise UsageError(f"--seeds: {twice[0]} is given twice; remove one")
    return [(dataclasses.replace(suite, seed=seed), recipe(options, seed)) for seed in options.seeds]


class MatrixRun:
    """The run of one suite.

    Args:
        session: What it shares with other runs.
        suite: What to evaluate.
        command: The command that makes the same results anywhere.

    Attributes:
        plan: Its cells.
        done: What those that have ended came to, by key.
        manifest: What the store says of the run, once it has results.

    Raises:
        UsageError: The suite cannot be run; raised before any work.
    """

    def __init__(self, session: Session, suite: Suite, command: str) -> None:
        self.session = session
        self.suite = suite
        self.command = command
        axes, device = resolve_axes(session.registry, suite), session.environment.device
        self.doubled, self.counterparts = Plan(axes, ()), dict[int, str]()
        with contextlib.closing(session.answers()) as answers:
            self.plan = build_checked_plan(lambda: build_plan(axes, session.sources, device, answers), session.sources)
            if all(cell.skipped for cell in self.plan.cells):
                raise UsageError(f"no cell can be run: {self.plan.cells[0].skipped}")
            if getattr(session.options, "check_convergence", False):
                with undo_process_changes("an attack"):
                    self.doubled, self.counterparts = double_steps(self.plan, session.sources, device, answers)
        self.done: dict[str, Summary] = {}
        self.manifest: dict[str, Any] = {}

    def announce(self) -> None:
        """Finds out what is left to do, and says it."""
        store, rerun, batch_size = self.session.store, self.session.options.rerun, self.session.environment.batch_size
        self.schedule = build_schedule(self.plan, store, rerun, batch_size)
        more = build_schedule(self.doubled, store, rerun, batch_size)
        if self.suite.description and self.suite.name != CUSTOM:
            self.session.say(f"{self.suite.name}: {self.suite.description}")
        self.session.say(_size(self.plan, self.schedule))
        self.session.tell_answers()
        for dataset in dict.fromkeys(cell.dataset for cell in self.plan.cells if cell.key):
            for note in dataset_notes(dataset):
                self.session.say_once(note)
        if self.suite.precision != FLOAT32:
            self.session.say(_caution(self.plan, self.suite.precision))
        if self.doubled.cells:
            to_do = len(self.doubled.cells) - len(more.cached)
            self.session.say(f"with twice the steps, to check convergence: {to_do} more cells to do")
        self.schedule = Schedule({**self.schedule.cached, **more.cached}, {**self.schedule.jobs, **more.jobs})
        for flag, heeded in (("eot", ADAPTIVE.name), ("score_draws", "")):
            told = getattr(self.session.options, flag, None) is not None
            if told and not any(c.stochastic and heeded in (c.threat.name, "") for c in self.plan.cells):
                under = f" under the threat {heeded!r}" if heeded else ""
                self.session.say(f"--{flag.replace('_', '-')} changes nothing here: no defense{under} is stochastic")

    def print_dry_run(self, console: Console) -> None:
        """Lists the cells and what would become of each."""
        lines = []
        for cell in self.plan.cells:
            state = "skipped" if cell.skipped else "fails" if cell.failed else "to do"
            state = "stored" if cell.key in self.schedule.cached else state
            lines.append(f"{state:<8}{cell.label()}\n")
        console.file.write("".join(lines))  # rich takes a millisecond a line

    def results(self) -> dict[str, Any]:
        """Does what is left and returns the results.

        Raises:
            KeyboardInterrupt: The user interrupted; the message says what is kept.
        """
        images = self._load_datasets() if self.schedule.jobs else {}
        self.manifest = self._write_manifest()
        self.done = dict(self.schedule.cached)
        if not self.schedule.jobs:
            self.session.say(_nothing_to_do(self.plan, self.schedule, self.session.store.root))
        else:
            self._compute(images)
        self.schedule = Schedule({}, {})  # of many cells it takes room, which what follows needs
        counterparts = {place: self.done.get(key) for place, key in self.counterparts.items()}
        doubled = {place: summary for place, summary in counterparts.items() if summary and summary.ok}
        results = build_results(self.manifest, self.done, doubled)
        self.done = {}
        return results

    def examples(self) -> ExampleImages:
        """Samples of its cells as images, once it has results; on the processor where only workers have the device."""
        environment = self.session.environment
        if device_name(environment.device) is None:
            environment = dataclasses.replace(environment, device="cpu")
        return ExampleImages(Workspace(environment, self.session.registry), self.manifest, SAMPLES)

    def records(self) -> Iterator[dict[str, Any]]:
        """What the store holds of the cells, sample by sample, one after another."""
        for cell in self.plan.cells:
            record = self.session.store.read_record("cells", cell.key) if cell.key else None
            if record is not None:
                yield record

    def _load_datasets(self) -> dict[str, LabelledImages]:
        """Reads, and where needed downloads, the datasets before any work.

        One that breaks its contract, or changes the process, is left to its cells, which fail with what it raises.
        """
        loaded = {}
        known = self.session.answers().images
        for dataset in dict.fromkeys(cell.dataset for cell in self.plan.cells if cell.key):
            if full_spec(dataset) in known:
                loaded[full_spec(dataset)] = known[full_spec(dataset)]
                continue
            try:
                with undo_process_changes(f"dataset {dataset.name!r}") as changed:
                    images = check_dataset(dataset, dataset.load(self.session.sources))
                if not changed:
                    loaded[full_spec(dataset)] = images
            except UsageError:
                raise
            except (Exception, SystemExit) as error:
                self.session.say(f"dataset {dataset.name!r} cannot be read: {describe(error)}")
        return loaded

    def _write_manifest(self) -> dict[str, Any]:
        store, answers = self.session.store, self.session.answers()
        answers.save()
        with undo_process_changes("a component"):
            manifest = make_manifest(
                self.plan,
                self.session.registry,
                self.session.environment,
                name=self.suite.name,
                command=self.command,
                before=store.read_manifest(self.plan.run_id),
                doubled=self.counterparts,
                more=self.doubled.cells,
                networks=answers.keys,
            )
        store.write_manifest(self.plan.run_id, manifest)
        return manifest

    def _compute(self, images: dict[str, LabelledImages]) -> None:
        """Does what is left, adding to what is done."""
        session, options = self.session, self.session.options
        check_disk_space(session.store.root, self.schedule.jobs.values())
        set_workspace(session.environment, session.registry, images)
        began = time.monotonic()
        total = len(self.plan.cells) + len(self.doubled.cells)
        held = session.environment.memory if session.executor.in_process else None
        jobs = self.schedule.jobs.values()
        workers = WorkerPool(session.executor, options.jobs, session.gpus, session.environment, jobs, live=session.live)
        try:
            with memory_limit(held), workers:
                self._note_workers(workers)
                expected = estimate(self.schedule, workers)
                session.say(self._forecast(expected, workers.slots()))
                watch = MatrixProgress(
                    session.console,
                    self.schedule,
                    expected,
                    self.done,
                    self.plan.cells,
                    more=len(self.doubled.cells),
                    verbosity=options.verbosity,
                )
                with watch as progress:
                    again = options.rerun == "all"
                    run_schedule(
                        self.schedule,
                        workers,
                        progress,
                        again=again,
                        fail_fast=options.fail_fast,
                        faults=expected.faults,
                    )
        except KeyboardInterrupt:
            done = sum(summary.ok for summary in self.done.values())
            raise KeyboardInterrupt(f"{done} of {total} cells are done and kept") from None
        session.say(f"finished in {in_words(time.monotonic() - began)}")

    def _note_workers(self, workers: WorkerPool) -> None:
        """Says in the manifest what the workers compute with, where that is not what this process would."""
        if any(self.manifest[name] != value for name, value in workers.worker_settings.items()):
            self.manifest |= workers.worker_settings
            self.session.store.write_manifest(self.plan.run_id, self.manifest)

    def _forecast(self, expected: Estimate, jobs: int) -> str:
        environment = self.session.environment
        seconds = expected.seconds / jobs
        how = "at a guess" if expected.rough else "about" if seconds >= 1 else ""
        where = f"{self.manifest['threads']} CPU threads" if environment.device == "cpu" else environment.device
        workers = f" in each of {jobs} workers" if jobs > 1 else ""
        return f"this will take {how} {in_words(seconds)} on {where}{workers}".replace("  ", " ")


def _nothing_to_do(plan: Plan, schedule: Schedule, store: Path) -> str:
    """Where the cells come from when there is none to compute; some may be ones that cannot be run."""
    total = len(plan.cells)
    there = sum(cell.key in schedule.cached for cell in plan.cells if cell.key)
    if there == total:
        return f"all {total} cells come from the store {store}"
    skipped, failed = (sum(bool(getattr(cell, state)) for cell in plan.cells) for state in ("skipped", "failed"))
    states = ((there, f"in the store {store}"), (failed, "cannot be run"), (skipped, "skipped"))
    return f"nothing to compute of {total} cells: " + ", ".join(f"{count} {what}" for count, what in states if count)


def _caution(plan: Plan, precision: str) -> str:
    """What another precision than float32 means for a plan."""
    line = f"the network is attacked in {precision}, and scored in {FLOAT32}"
    minimal = dict.fromkeys(short_spec(cell.attack) for cell in plan.cells if cell.key and cell.budget is None)
    if not minimal:
        return line
    return f"{line}: minimal attacks ({', '.join(minimal)}) stop where the one is fooled, which may not fool the other"


def _size(plan: Plan, schedule: Schedule) -> str:
    """How large a plan is, and how much of it is there."""
    counts = {cell.dataset: len(cell.ids) for cell in plan.cells if not cell.skipped}
    images = ", ".join(f"{count:,} images of {short_spec(dataset)}" for dataset, count in counts.items())
    skipped = sum(bool(cell.skipped) for cell in plan.cells)
    failed = sum(bool(cell.failed) for cell in plan.cells)
    to_do = len(plan.cells) - skipped - failed - len(schedule.cached)
    states = f"{len(schedule.cached)} in the store, {to_do} to do" + (f", {skipped} skipped" if skipped else "")
    states += f", {failed} cannot be run" if failed else ""
    return f"{_product(plan)} = {len(plan.cells)} cells on {images}; {states}"


def _product(plan: Plan) -> str:
    """The number of cells as a product, or for several parts as a sum."""
    if len(plan.parts) == 1:
        return " × ".join(_count(count, word) for word, count in _lengths(plan.parts[0]).items())
    sizes = [math.prod(_lengths(axes).values()) for axes in plan.parts]
    twice = sum(sizes) - len(plan.cells)
    less = f", less {twice} that occur twice," if twice else ""
    return f"{len(sizes)} parts of {' + '.join(map(str, sizes))}{less}"


def _lengths(axes: Axes) -> dict[str, int]:
    return {
        "dataset": len(axes.datasets),
        "model": len(axes.models),
        "attack": len(axes.attacks),
        "defense": len(axes.defenses),
        "threat": len(axes.threats),
    }


def _count(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
