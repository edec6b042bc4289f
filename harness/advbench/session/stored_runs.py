"""Finds stored runs by the names that commands accept, and reads their results."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from advbench.analysis import Summary, build_results, summarise
from advbench.errors import UsageError, listed
from advbench.printable import one_line
from advbench.session.certificates import read_certificates
from advbench.session.manifest_form import wrong_field
from advbench.store import Store

__all__ = ["find_id", "find_run", "read_records", "read_results"]

_LATEST = re.compile(r"latest(?:~(?P<back>[0-9]{1,9}))?")


def find_id(store: Store, name: str, *, only: bool = False) -> str:
    """The id of a run.

    If several runs have the name, the latest of them is meant, and a line on stderr lists the others.

    Args:
        store: The store of the runs.
        name: The id of the run, the beginning of its id, its name, ``latest``, or ``latest~N`` for the run N before
            that, where the seeds of one command count as one run. A text that is both the beginning of one id and a
            name is read as the former.
        only: Whether a name of several runs is an error, since the run is to be deleted.

    Raises:
        UsageError: There is no such run, or more than one.
    """
    runs = list(store.runs())
    if not runs:
        raise UsageError(f"the store {store.root} holds no run yet; 'advbench matrix' creates one")
    latest = _LATEST.fullmatch(name)
    matches = (
        _latest(store, runs, int(latest["back"] or 0)) if latest else [run for run in runs if run.startswith(name)]
    )
    if len(matches) == 1:
        return matches[0]
    named = [] if latest else [run for run in runs if (store.read_manifest(run) or {}).get("name") == name]
    if named and not (only and len(named) > 1):
        seeds = _seeds(store, named[0])
        others = [run for run in named[1:] if run not in seeds]
        if others:
            text = f"{name!r} is the name of several runs: {named[0]} is the latest; others: {listed(others, 5)}"
            print(one_line(text), file=sys.stderr)
        return named[0]
    if named:
        ids = f"{named[0]} is the latest, others: {listed(named[1:], 5)}"
        raise UsageError(f"{name!r} is the name of several runs in {store.root}: {ids}; give the id of one")
    what = "is the beginning of several runs" if matches else "names no run"
    raise UsageError(f"{name!r} {what} in {store.root}; there are: {listed(matches or runs, 5)}")


def _latest(store: Store, runs: Sequence[str], back: int) -> list[str]:
    """The run that is so many commands before the latest: of several seeds the last; nothing if there are too few."""
    same: set[str] = set()
    for run in runs:
        if run in same:
            continue
        if not back:
            return [run]
        back -= 1
        same = _seeds(store, run)
    return []


def _seeds(store: Store, run: str) -> set[str]:
    """The runs with all seeds of the command that last ran a run; empty if it had one seed."""
    return set(((store.read_manifest(run) or {}).get("repeats") or {}).get("runs", ()))


def find_run(store: Store, name: str) -> dict[str, Any]:
    """The manifest of a run.

    Args:
        store: The store of the runs.
        name: The run, as for :func:`find_id`.

    Raises:
        UsageError: There is no such run, or more than one, or its manifest is damaged.
    """
    run = find_id(store, name)
    manifest = store.read_manifest(run)
    if manifest is None:
        raise UsageError(f"the manifest of run {run} is damaged; repeat its 'advbench matrix' command")
    if wrong := wrong_field(manifest):
        raise UsageError(
            f"the manifest of run {run} is not one of this version of advbench: field {wrong!r} is missing or wrong; "
            "repeat its 'advbench matrix' command"
        )
    return manifest


def read_results(store: Store, manifest: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The results of a run as far as the store has them, and how many of its cells are missing."""
    cells = {cell["key"]: cell for cell in manifest["cells"] if cell["key"]}
    stored = {key: summary for key, cell in cells.items() if (summary := _read(store, key, cell)) is not None}
    doubled = {
        int(index): summary
        for index, key in manifest.get("doubled", {}).items()
        if (summary := _read(store, key, manifest["cells"][int(index)])) is not None and summary.ok
    }
    certificates = read_certificates(store, manifest)
    return build_results(manifest, stored, doubled, certificates), len(cells) - len(stored)


def read_records(store: Store, manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The stored records of a run's cells, by key."""
    keys = [cell["key"] for cell in manifest["cells"] if cell["key"]]
    return {key: record for key in keys if (record := store.read_record("cells", key)) is not None}


def _read(store: Store, key: str, described: Mapping[str, Any]) -> Summary | None:
    """The summary of a stored cell; ``described`` is its entry in the manifest."""
    record = store.read_record("cells", key, arrays=True)
    if record is None:
        return None
    minimal = described["attack_kind"] == "minimal"
    return summarise(record, described.get("norm") if minimal else None)  # manifests of earlier versions have no norm
