"""Reads runs and results, runs suites and renders reports: what a study imports besides :mod:`advbench.api`.

Results are plain data with the keys of an exported ``results.json`` (docs/results-json.md). A record is what the store
holds of one cell, with the outcome of each sample. Names are imported when they are first used, so that importing this
module loads no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from advbench._lazy import lazy_names

if TYPE_CHECKING:
    from advbench.analysis.comparison import compare_components, compare_defenses, compare_runs
    from advbench.analysis.confusion import confusion_matrix, error_spread, sum_matrices
    from advbench.analysis.intervals import wilson
    from advbench.analysis.measures import attack_succeeded, robust_bits, worst_case
    from advbench.analysis.paired import holm, mcnemar
    from advbench.analysis.results import RESULTS_SCHEMA, build_results
    from advbench.analysis.seeds import combine_seeds
    from advbench.analysis.summary import Summary, summarise
    from advbench.api.parameters import format_value
    from advbench.live import Results
    from advbench.report.board import FAILED, NOT_RUN, percent
    from advbench.report.export import Export
    from advbench.report.footer import attack_settings, failures, provenance
    from advbench.report.markdown import Markdown, code, escape
    from advbench.report.terminal import print_leaderboards
    from advbench.session.studies import StudySession, SuiteRun
    from advbench.specs.suite import Part, Suite

__all__ = [
    "FAILED",
    "NOT_RUN",
    "RESULTS_SCHEMA",
    "Export",
    "Markdown",
    "Part",
    "Results",
    "StudySession",
    "Suite",
    "SuiteRun",
    "Summary",
    "attack_settings",
    "attack_succeeded",
    "build_results",
    "code",
    "combine_seeds",
    "compare_components",
    "compare_defenses",
    "compare_runs",
    "confusion_matrix",
    "error_spread",
    "escape",
    "failures",
    "format_value",
    "holm",
    "mcnemar",
    "percent",
    "print_leaderboards",
    "provenance",
    "read_records",
    "read_run",
    "robust_bits",
    "run_suite",
    "sum_matrices",
    "summarise",
    "wilson",
    "worst_case",
]


def run_suite(suite: str | Path, **options: Any) -> Results:
    """Runs a suite, as ``advbench matrix --suite`` does; what is in the store is not computed again.

    Args:
        suite: The name of a suite, that of a plugin included, or the path of a TOML file.
        **options: Any other argument of :func:`advbench.matrix`, such as ``limit=100``, ``store="results"`` or
            ``quiet=True``.

    Returns:
        The results: ``results.data`` has the keys of an exported ``results.json``.

    Raises:
        UsageError: The suite or an option cannot be used; raised before any work.
    """
    from advbench.live import matrix

    return matrix(suite=suite, **options)


def read_run(run: str = "latest", store: str | Path | None = None) -> dict[str, Any]:
    """The results of an earlier run, as far as the store has them.

    Args:
        run: The run's id, the beginning of its id, its name, ``latest``, or ``latest~1`` for the one before.
        store: The folder in which results are kept; without, the default of ``--store``.

    Returns:
        Results with the keys of an exported ``results.json``; cells that are not stored are skipped with the reason.
        The seeds of a command with ``--seeds`` are combined, unless ``run`` is an id.

    Raises:
        UsageError: There is no such run, or its manifest is damaged.
    """
    from advbench.session.options import default_store
    from advbench.session.shown_runs import read_together, runs_together
    from advbench.store import Store

    opened = Store(default_store() if store is None else Path(store))
    return read_together(opened, runs_together(opened, run))[0]


def read_records(run: str = "latest", store: str | Path | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the records of an earlier run, as :func:`compare_components` and :func:`compare_runs` take them.

    Args:
        run: The run, as for :func:`read_run`.
        store: The folder in which results are kept; without, the default of ``--store``.

    Returns:
        The manifest of the run, and the stored records of its cells by key. ``manifest["cells"]`` has the key and the
        specs of each cell; cells that are not stored have no record.

    Raises:
        UsageError: There is no such run, or its manifest is damaged.
    """
    from advbench.session import stored_runs
    from advbench.session.options import default_store
    from advbench.store import Store

    opened = Store(default_store() if store is None else Path(store))
    manifest = stored_runs.find_run(opened, run)
    return manifest, stored_runs.read_records(opened, manifest)


if not TYPE_CHECKING:  # so that type checkers see the imports above alone
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "advbench.analysis.comparison": (
                "compare_components",
                "compare_defenses",
                "compare_runs",
            ),
            "advbench.analysis.confusion": (
                "confusion_matrix",
                "error_spread",
                "sum_matrices",
            ),
            "advbench.analysis.intervals": ("wilson",),
            "advbench.analysis.measures": (
                "attack_succeeded",
                "robust_bits",
                "worst_case",
            ),
            "advbench.analysis.paired": (
                "holm",
                "mcnemar",
            ),
            "advbench.analysis.results": (
                "RESULTS_SCHEMA",
                "build_results",
            ),
            "advbench.analysis.seeds": ("combine_seeds",),
            "advbench.analysis.summary": (
                "Summary",
                "summarise",
            ),
            "advbench.api.parameters": ("format_value",),
            "advbench.live": ("Results",),
            "advbench.report.board": (
                "FAILED",
                "NOT_RUN",
                "percent",
            ),
            "advbench.report.export": ("Export",),
            "advbench.report.footer": (
                "attack_settings",
                "failures",
                "provenance",
            ),
            "advbench.report.markdown": (
                "Markdown",
                "code",
                "escape",
            ),
            "advbench.report.terminal": ("print_leaderboards",),
            "advbench.session.studies": (
                "StudySession",
                "SuiteRun",
            ),
            "advbench.specs.suite": (
                "Part",
                "Suite",
            ),
        },
    )
