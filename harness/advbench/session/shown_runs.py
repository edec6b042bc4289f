"""What commands show of stored runs: all seeds of one command together, on the leaderboards of its suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advbench.analysis import combine_seeds
from advbench.analysis.board_rows import with_rows
from advbench.analysis.corruption_error import with_reference
from advbench.errors import UsageError
from advbench.session.stored_runs import find_run, read_results
from advbench.store import Store

__all__ = ["on_boards", "read_together", "runs_together"]


def runs_together(store: Store, name: str) -> list[dict[str, Any]]:
    """The manifests of a run and of the same command's other seeds, in the order of the seeds.

    A run that is named by its id, or the beginning of it, is shown alone; so is one whose other seeds have gone from
    the store.

    Args:
        store: The store of the runs.
        name: The run, as for :func:`advbench.session.stored_runs.find_id`.

    Raises:
        UsageError: There is no such run, or more than one, or its manifest is damaged.
    """
    manifest = find_run(store, name)
    seeds = manifest.get("repeats", {}).get("runs", [])
    if manifest["run"].startswith(name) or manifest["run"] not in seeds:
        return [manifest]
    try:
        first, *others = [find_run(store, run) for run in seeds]
    except UsageError:
        return [manifest]
    # A later command with fewer seeds may have given its own name to the first of these runs.
    return [{**first, **{key: manifest[key] for key in ("name", "command", "repeats")}}, *others]


def read_together(store: Store, manifests: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], str]:
    """The results of runs that differ in the seed alone, combined.

    Returns:
        The results, and a sentence's beginning that says how many cells have not been run; empty if all have been.
    """
    results, missing = zip(*(read_results(store, manifest) for manifest in manifests), strict=True)
    total = sum(bool(cell["key"]) for manifest in manifests for cell in manifest["cells"])
    left = f"{sum(missing)} of {total} cells have not been run" if any(missing) else ""
    return combine_seeds(results, manifests[0].get("repeats", {}).get("command", "")), left


def on_boards(
    results: Mapping[str, Any], manifest: Mapping[str, Any], *, rows: str | None, reference: str | None
) -> dict[str, Any]:
    """The results with the leaderboards that a command asks for, else with those of the run's suite.

    Args:
        results: The results, with a leaderboard for each model.
        manifest: The run's manifest.
        rows: As for :func:`advbench.analysis.board_rows.with_rows`; None for those of the suite.
        reference: As for :func:`advbench.analysis.corruption_error.with_reference`; None for that of the suite.

    Raises:
        UsageError: The run does not have the reference model.
    """
    board = manifest.get("board", {})  # manifests of earlier versions have none
    referred = with_reference(results, reference or board.get("reference"))
    return with_rows(referred, rows or board.get("rows") or "defense")
