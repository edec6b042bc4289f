"""Runs a suite: plan, schedule, work, results; and ``advbench matrix``, which does this for each seed."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console

from advbench.analysis import SHOWN_SAMPLES, Summary, build_results, combine_seeds
from advbench.analysis.board_rows import with_rows
from advbench.analysis.corruption_error import check_reference, with_reference
from advbench.api import LabelledImages
from advbench.contracts.datasets import check_dataset
from advbench.errors import UsageError, describe
from advbench.evaluation.plan.build import Plan, build_plan, resolve_axes
from advbench.evaluation.plan.threats import ADAPTIVE
from advbench.evaluation.run.dataset_facts import dataset_notes
from advbench.evaluation.run.disk_space import check_disk_space
from advbench.evaluation.run.doubled_steps import double_steps
from advbench.evaluation.run.estimate import Estimate, estimate
from advbench.evaluation.run.fit_overlap import check_fit_images
from advbench.evaluation.run.manifest import make_manifest
from advbench.evaluation.run.pool import WorkerPool
from advbench.evaluation.run.schedule import Schedule, build_schedule
from advbench.evaluation.run.scheduler import run_schedule
from advbench.evaluation.work.behaviour.culprits import build_checked_plan
from advbench.evaluation.work.examples.example_images import ExampleImages
from advbench.evaluation.work.workspace import Workspace, device_name
from advbench.option_names import option
from advbench.process.state import undo_process_changes
from advbench.report import plan_exports, print_leaderboards, write_export
from advbench.session.certificates import read_certificates
from advbench.session.forecasts import announce_total, open_workers, print_dry_run, worker_threads
from advbench.session.opening import tables
from advbench.session.options import RunOptions
from advbench.session.page_details import with_page_details
from advbench.session.progress import MatrixProgress
from advbench.session.run_messages import (
    certificate_notes,
    duration,
    forecast,
    memory_notes,
    nothing_to_do,
    older_results,
    plan_size,
    precision_warning,
)
from advbench.session.session import Session
from advbench.session.suites import recipe, suite_of, suites_by_seed
from advbench.specs import FLOAT32, Suite, full_spec

if TYPE_CHECKING:
    import torch

__all__ = ["MatrixRun", "check_suite_reference", "link_seeds", "run_matrix"]


def run_matrix(options: RunOptions, stdout: TextIO) -> int:
    """Does what ``advbench matrix`` does: checks everything, then computes, then reports.

    Args:
        options: What the user asked for.
        stdout: Where the leaderboard is printed.

    Returns:
        The exit code: 1 if a cell failed, else 0.

    Raises:
        UsageError: An option cannot be used; raised before any work.
    """
    session = Session(options)
    suite = suite_of(session.suite, options, session.registry)
    exports = plan_exports(session.registry, options.export, suite.name)
    runs = [MatrixRun(session, one, command) for one, command in suites_by_seed(suite, options)]
    link_seeds(runs, recipe(options))
    check_suite_reference(suite, runs[0])
    console = tables(stdout)
    if options.dry_run:
        print_dry_run(session, runs, console)
        return 0
    session.store.check_writable()
    announce_total(session, runs)
    results_by_seed = []
    for run in runs:
        if len(runs) > 1:
            session.say(f"seed {run.plan.seed}")
        run.announce()
        results_by_seed.append(run.results())
    results = with_reference(combine_seeds(results_by_seed, recipe(options)), suite.reference)
    results = with_rows(results, suite.rows)
    exported = with_page_details(results, exports, session.store, runs[0].manifest, runs[0].examples)
    for export in exports:
        write_export(export, exported)
        session.say(f"wrote {export.path}")
    with contextlib.suppress(BrokenPipeError):  # the reader of stdout is gone; all work is done and written
        print_leaderboards(console, results, options.format)
    return int(any(item["status"] == "error" for item in (*results["cells"], *results.get("certificates", ()))))


def link_seeds(runs: Sequence[MatrixRun], command: str) -> None:
    """Makes the manifests of a command's runs name one another, so that its seeds can be shown together again.

    Args:
        runs: The runs, one for each seed.
        command: The command that runs all of them.
    """
    if len(runs) > 1:
        for run in runs:
            run.repeats = {"repeats": {"command": command, "runs": [one.plan.run_id for one in runs]}}


def check_suite_reference(suite: Suite, run: MatrixRun) -> None:
    """Checks that a run has the reference model of its suite.

    Raises:
        UsageError: It has not.
    """
    names = {(cell.specs()["model"], cell.short_names()["model"]): None for cell in run.plan.cells}
    check_reference(suite.reference, names)


class MatrixRun:
    """The run of one suite.

    Args:
        session: What the run shares with other runs.
        suite: What to evaluate.
        command: The command that reproduces the results.

    Attributes:
        plan: The cells of the run.
        done: The summaries of the cells that have ended, by key.
        schedule: What is stored and what is left to do; unknown until :meth:`update_schedule` is called.
        manifest: The manifest of the run in the store; empty until :meth:`results` is called.
        expected: An estimate that several runs share and that includes the jobs of this one; None if there is none.
        repeats: For the manifest, the other seeds of the same command; see :func:`link_seeds`.

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
            if suite.certify and not self.plan.certifications:
                raise UsageError(
                    f"{option('certify')}: no model or defense of the run gives certificates; add one, such as the "
                    "defense smoothing, or leave it out"
                )
            if session.options.check_convergence:
                with undo_process_changes("an attack"):
                    self.doubled, self.counterparts = double_steps(self.plan, session.sources, device, answers)
        self.done: dict[str, Summary] = {}
        self.manifest: dict[str, Any] = {}
        self.expected: Estimate | None = None
        self.repeats: dict[str, Any] = {}

    def update_schedule(self) -> tuple[Schedule, Schedule]:
        """Builds the schedule of what is left to do.

        Returns:
            The schedule of the plan's own cells, and that of the cells with twice the steps.
        """
        store, rerun, batch_size = self.session.store, self.session.options.rerun, self.session.environment.batch_size
        own, more = (build_schedule(plan, store, rerun, batch_size) for plan in (self.plan, self.doubled))
        self.schedule = Schedule({**own.cached, **more.cached}, {**own.jobs, **more.jobs})
        return own, more

    def announce(self) -> None:
        """Builds the schedule of what is left to do, and reports its size and what the user should know of it."""
        own, more = self.update_schedule()
        if self.suite.description:
            self.session.say(f"{self.suite.name}: {self.suite.description}")
        self.session.say(plan_size(self.plan, own))
        if own.jobs and (notice := older_results(self.session.store)):
            self.session.say_once(notice)
        self.session.report_answers()
        for dataset in dict.fromkeys(cell.dataset for cell in self.plan.cells if cell.key):
            for note in dataset_notes(dataset):
                self.session.say_once(note)
        if self.suite.precision != FLOAT32:
            self.session.say(precision_warning(self.plan, self.suite.precision))
        if self.doubled.cells:
            to_do = len(self.doubled.cells) - len(more.cached)
            self.session.say(f"with twice the steps, to check convergence: {to_do} more cells to do")
        for note in certificate_notes(self.plan, own):
            self.session.say(note)
        self._report_unused_flags()

    def _report_unused_flags(self) -> None:
        """Reports settings that the user gave although nothing in this run uses them."""
        options = self.session.options
        stochastic = [cell for cell in self.plan.cells if cell.stochastic]
        drawn = any(cell.threat.name == ADAPTIVE.name for cell in stochastic) or any(
            cell.chunks and cell.chunks[0].target.model.stochastic for cell in self.plan.cells
        )
        if options.eot is not None and not drawn:
            threat = f"the threat {ADAPTIVE.name!r}"
            none = f"no model, and no defense under {threat}, is stochastic"
            self.session.say(f"{option('eot')} changes nothing here: {none}")
        if self.suite.radii and not self.suite.certify:
            self.session.say(f"{option('radii')} changes nothing without {option('certify')}")
        for name in ("fit_samples", "fit_data"):
            if getattr(options, name) is not None and not self.plan.fits:
                self.session.say(f"{option(name)} changes nothing here: nothing is fitted to data")
        if options.score_draws is not None and not stochastic:
            self.session.say(f"{option('score_draws')} changes nothing here: no model or defense is stochastic")

    def print_cells(self, console: Console) -> None:
        """Lists the cells and what would happen to each."""
        lines = []
        for cell in self.plan.cells:
            state = "skipped" if cell.skipped else "fails" if cell.failed else "to do"
            state = "stored" if cell.key in self.schedule.cached else state
            lines.append(f"{state:<8}{cell.label()}\n")
        console.file.write("".join(lines))  # rich takes a millisecond for each line

    def results(self) -> dict[str, Any]:
        """Runs what is left to do and returns the results.

        Raises:
            KeyboardInterrupt: The user interrupted; the message says what is stored.
        """
        images = self.load_datasets() if self.schedule.jobs else {}
        self.manifest = self._write_manifest()
        self.done = dict(self.schedule.cached)
        if not self.schedule.jobs:
            self.session.say(nothing_to_do(self.plan, self.schedule, self.session.store.root))
        else:
            self._compute(images)
            if self.session.store.read_manifest(self.plan.run_id) is None:  # another command has removed the run
                self.session.store.write_manifest(self.plan.run_id, self.manifest)
        self.schedule = Schedule({}, {})  # frees memory that the next steps need if there are many cells
        counterparts = {index: self.done.get(key) for index, key in self.counterparts.items()}
        doubled = {index: summary for index, summary in counterparts.items() if summary and summary.ok}
        results = build_results(self.manifest, self.done, doubled, read_certificates(self.session.store, self.manifest))
        self.done = {}
        return results

    def examples(self) -> ExampleImages:
        """Example images of the cells, once there are results; computed on the CPU if only workers have the device."""
        environment = self.session.environment
        if device_name(environment.device) is None:
            environment = dataclasses.replace(environment, device="cpu")
        return ExampleImages(Workspace(environment, self.session.registry), self.manifest, SHOWN_SAMPLES)

    def records(self) -> Iterator[dict[str, Any]]:
        """The stored records of the cells, which hold the outcome of each sample, one after another.

        If the run has several surrogates, ``surrogate`` has the full spec of the cell's: runs may share records.
        """
        for cell in self.plan.cells:
            record = self.session.store.read_record("cells", cell.key) if cell.key else None
            if record is not None:
                yield {**record, **cell.named_surrogate()}

    def images(self, specs: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The clean and the adversarial images of a finished cell, float32, shape (samples, channels, height, width).

        Args:
            specs: Full specs of the cell's coordinates, as in its record; with ``surrogate`` if the run has several.

        Returns:
            The images in the order of the cell's samples; None if the store no longer has them, or if the dataset
            cannot be read.
        """
        import torch  # here, since only some studies need it

        cells = (cell for cell in self.plan.cells if cell.key)
        own = ((cell, {**cell.stored_specs(), **cell.named_surrogate()}) for cell in cells)
        cell = next((cell for cell, coordinates in own if coordinates.items() <= dict(specs).items()), None)
        stored = [self.session.store.read_tensors(chunk.key) for chunk in cell.chunks] if cell else []
        chunks = [chunk[0]["images"] for chunk in stored if chunk is not None]
        if cell is None or len(chunks) < len(stored):
            return None
        try:
            data = self.load_datasets(download=False)
        except UsageError:
            return None
        dataset = full_spec(cell.dataset)
        return (data[dataset].take(cell.ids)[0], torch.cat(chunks)) if dataset in data else None

    def load_datasets(self, *, download: bool = True) -> dict[str, LabelledImages]:
        """Reads the datasets, and downloads them if needed and allowed, before any work.

        A dataset that breaks its contract or changes the process is left out; its cells then fail with its error.

        Raises:
            UsageError: A dataset is missing, or images for fits are samples of the run.
        """
        loaded = {}
        sources = dataclasses.replace(self.session.sources, download=self.session.sources.download and download)
        known = self.session.answers().images
        for dataset in dict.fromkeys([*self.plan.datasets, *self.doubled.datasets]):
            if full_spec(dataset) in known:
                loaded[full_spec(dataset)] = known[full_spec(dataset)]
                continue
            try:
                with undo_process_changes(f"dataset {dataset.name!r}") as changed:
                    images = check_dataset(dataset, dataset.load(sources))
                if not changed:
                    loaded[full_spec(dataset)] = images
            except UsageError:
                raise
            except (Exception, SystemExit) as error:
                self.session.say(f"dataset {dataset.name!r} cannot be read: {describe(error)}")
        for plan in (self.plan, self.doubled):
            check_fit_images(plan, loaded)
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
                shown={"board": {"rows": self.suite.rows, "reference": self.suite.reference}, **self.repeats},
            )
        store.write_manifest(self.plan.run_id, manifest)
        return manifest

    def _compute(self, images: dict[str, LabelledImages]) -> None:
        """Runs the scheduled jobs and adds the cells that end to ``done``."""
        session, options = self.session, self.session.options
        check_disk_space(session.store.root, self.schedule.jobs.values())
        began = time.monotonic()
        total = len(self.plan.cells) + len(self.doubled.cells)
        try:
            with open_workers(session, self.schedule.jobs.values(), session.environment, images) as workers:
                self._note_workers(workers)
                expected = self._estimate(workers)
                threads = worker_threads(workers)
                session.say(forecast(expected, workers.slots(), session.environment.device, threads))
                for note in memory_notes(expected, self.plan, session.environment.batch_size):
                    session.say_once(note)
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
            raise KeyboardInterrupt(f"{done} of {total} cells are finished and stored") from None
        session.say(f"finished in {duration(time.monotonic() - began)}")

    def _estimate(self, workers: WorkerPool) -> Estimate:
        """The estimate that was made for several runs together, as far as jobs are left, or a new one."""
        jobs = self.schedule.jobs
        if self.expected is not None and jobs.keys() <= self.expected.of_job.keys():
            return self.expected.of(jobs)
        return estimate(self.schedule, workers)

    def _note_workers(self, workers: WorkerPool) -> None:
        """Updates the manifest if the workers' device or threads differ from those of this process."""
        if any(self.manifest[name] != value for name, value in workers.worker_settings.items()):
            self.manifest |= workers.worker_settings
            self.session.store.write_manifest(self.plan.run_id, self.manifest)
