"""What a study's command is given: its flags, and the means to run suites and to write reports."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console

from advbench.api import Reporter
from advbench.report import Export, plan_outputs, write_export
from advbench.session.forecasts import announce_total, print_dry_run
from advbench.session.opening import tables
from advbench.session.options import LoadOptions, RunOptions
from advbench.session.run import MatrixRun
from advbench.session.session import Session
from advbench.session.suites import plugin_words, recipe, suite_of
from advbench.specs import Suite, load_suite

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["StudySession", "SuiteRun"]

_SHARED = (
    *(field.name for field in dataclasses.fields(LoadOptions)),
    *("batch_size", "jobs", "executor", "scheduler", "cell_timeout", "memory", "rerun", "fail_fast", "dry_run"),
    "verbosity",
)
"""The flags of every study that say where and how to run."""


class SuiteRun:
    """One suite that a study runs.

    Attributes:
        label: What messages call it.
        suite: The suite, with what the study replaced.
        matrix_run: Its run, for :class:`StudySession`.
    """

    def __init__(self, label: str, suite: Suite, run: MatrixRun) -> None:
        self.label = label
        self.suite = suite
        self.matrix_run = run

    @property
    def num_cells(self) -> int:
        """How many cells it has."""
        return len(self.matrix_run.plan.cells)

    @property
    def num_images(self) -> int:
        """How many images its largest dataset has."""
        return max(len(cell.ids) for cell in self.matrix_run.plan.cells)

    def results(self) -> dict[str, Any]:
        """Computes what is not in the store and returns the results, as in ``results.json``.

        Raises:
            KeyboardInterrupt: The user interrupted; the message says what is kept.
        """
        try:
            self.matrix_run.announce()
            return self.matrix_run.results()
        except KeyboardInterrupt as interruption:
            raise KeyboardInterrupt(f"{self.label}: {interruption}" if str(interruption) else "") from None

    def records(self) -> Iterator[Mapping[str, Any]]:
        """The stored records of the cells, sample by sample, one after another; once there are results."""
        return self.matrix_run.records()

    def images(self, record: Mapping[str, Any]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
        """The clean and the adversarial images of a cell, once there are results.

        Args:
            record: The record of the cell.

        Returns:
            Clean and adversarial images in [0, 1], each of shape (samples, channels, height, width), in the order of
            the record; None if the store no longer has them, or if the dataset cannot be read.
        """
        images = self.matrix_run.images(record)
        return images and (images[0].numpy(), images[1].numpy())


class StudySession:
    """Runs suites and writes reports for a study.

    Args:
        options: The parsed flags.
        stdout: Where tables go.

    Attributes:
        options: The parsed flags, those of the study included.

    Raises:
        UsageError: Anything that was asked for cannot be used.
    """

    def __init__(self, options: argparse.Namespace, stdout: TextIO) -> None:
        self.options = options
        self._stdout = stdout
        # The study's own flags, such as --limit, may have names that mean something else to a run.
        self._load = LoadOptions.of(vars(options))
        self._session = Session(RunOptions.of({name: vars(options)[name] for name in _SHARED}))

    @functools.cached_property
    def console(self) -> Console:
        """The console of tables; messages go to stderr, by :meth:`say`."""
        return tables(self._stdout)

    def say(self, line: str) -> None:
        """Prints a message on stderr, unless ``--quiet``."""
        self._session.say(line)

    def suite(self, name: str) -> Suite:
        """The suite of this name.

        Raises:
            UsageError: There is none.
        """
        return load_suite(name, self._session.registry.studies)

    def plan_suite(
        self,
        name: str,
        *,
        label: str | None = None,
        datasets: Sequence[str] | None = None,
        attacks: Sequence[str] | None = None,
        limit: int | None = None,
        models: Sequence[str] | None = None,
        defenses: Sequence[str] | None = None,
    ) -> SuiteRun:
        """Plans the run of a suite: reads its datasets, loads its models and finds out which cells there are.

        ``--seed`` replaces the suite's seed.

        Args:
            name: The suite.
            label: What messages call it; without, its name.
            datasets: Only these of its datasets.
            attacks: Attacks in place of its own, in each of its parts.
            limit: How many samples of each dataset, in place of its own number.
            models: Models in place of its own; if it has parts, only these of its models.
            defenses: Defenses in place of its own, in each of its parts.

        Raises:
            UsageError: The suite cannot be run, or lacks what is asked for.
            WeightsError: Weights of one of its components are missing.
        """
        suite = self.suite(name)
        own = {dataset for part in suite.products for dataset in part.datasets}
        narrowed = datasets is not None and suite.parts and set(datasets) != own
        asked = RunOptions(
            suite=name,
            datasets=tuple(datasets) if datasets is not None and narrowed else None,
            models=None if models is None else tuple(models),
            attacks=None if attacks is None else tuple(attacks),
            defenses=None if defenses is None else tuple(defenses),
            limit=limit,
            seed=self.options.seed,
            plugin=self._load.plugin,
            no_plugin=self._load.no_plugin,
        )
        suite = suite_of(suite, asked, self._session.registry)
        return SuiteRun(name if label is None else label, suite, MatrixRun(self._session, suite, recipe(asked)))

    def dry_run(self, runs: Sequence[SuiteRun]) -> int:
        """Lists the cells of suites and what would be done for each, and reports how long it would take.

        Returns:
            The exit code, which is 0.
        """
        print_dry_run(self._session, [run.matrix_run for run in runs], self.console)
        return 0

    def run(self, runs: Iterable[SuiteRun]) -> Iterator[tuple[SuiteRun, dict[str, Any]]]:
        """Runs suites one after another, and gives each with its results; after a failed cell stops at ``--fail-fast``.

        Reports first how long all of them will take together.

        Raises:
            KeyboardInterrupt: The user interrupted; the message says what is kept.
            StoreError: The store cannot be written; raised before any work.
        """
        self._session.store.check_writable()
        runs = list(runs)
        announce_total(self._session, [run.matrix_run for run in runs])
        for run in runs:
            results = run.results()
            yield run, results
            if self.options.fail_fast and any_failed([results]):
                return

    def plan_outputs(self, reporters: Sequence[Reporter], name: str) -> list[Export]:
        """The files of ``--output``, each with the reporter of its suffix; checked before any work.

        Args:
            reporters: One for each suffix.
            name: Name of the block of a Markdown file that is updated.

        Raises:
            UsageError: A file cannot be written, or no reporter has its suffix.
        """
        return plan_outputs(reporters, self.options.output, name, "--output")

    def write(self, outputs: Iterable[Export], report: Mapping[str, Any]) -> None:
        """Renders a report to each of the files of ``--output``."""
        for output in outputs:
            write_export(output, report)
            self.say(f"wrote {output.path}")

    def print_report(self, print_to: Callable[[Console], None]) -> None:
        """Prints a report on stdout; a reader that has gone away is no error, since all is done and written."""
        with contextlib.suppress(BrokenPipeError):
            print_to(self.console)

    def command(self, *words: str) -> str:
        """The command that makes the same report anywhere, without flags that only say where and how to run.

        Args:
            *words: The study's own flags with their values.
        """
        seed = [] if self.options.seed is None else ["--seed", str(self.options.seed)]
        return shlex.join(["advbench", "reproduce", self.options.study, *words, *seed, *plugin_words(self._load)])

    @staticmethod
    def exit_code(all_results: Iterable[Mapping[str, Any]]) -> int:
        """1 where a cell of any of these results failed, else 0."""
        return int(any_failed(all_results))


def any_failed(all_results: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a cell of any of these results failed."""
    return any(cell["status"] == "error" for results in all_results for cell in results["cells"])
