"""Earlier runs, as commands that show them name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from advbench.analysis import Summary, build_results, summarise
from advbench.errors import UsageError
from advbench.store import Store

__all__ = ["find_id", "find_run", "read_results"]

_LATEST = re.compile(r"latest(?:~(?P<back>\d{1,9}))?")


def find_id(store: Store, name: str) -> str:
    """The id of a run.

    Args:
        store: Where runs are.
        name: Its id, the beginning of its id, ``latest``, or ``latest~N`` for the one N before that.

    Raises:
        UsageError: There is no such run, or more than one.
    """
    runs = list(store.runs())
    if not runs:
        raise UsageError(f"the store {store.root} holds no run yet; 'advbench matrix' makes one")
    latest = _LATEST.fullmatch(name)
    back = int(latest["back"] or 0) if latest else 0
    found = runs[back : back + 1] if latest else [run for run in runs if run.startswith(name)]
    if len(found) != 1:
        what = "is the beginning of several runs" if found else "names no run"
        raise UsageError(f"{name!r} {what} in {store.root}; there are: {', '.join(runs[:5])}")
    return found[0]


def find_run(store: Store, name: str) -> dict[str, Any]:
    """The manifest of a run, named as for :func:`find_id`.

    Raises:
        UsageError: There is no such run, or more than one, or its manifest is damaged.
    """
    run = find_id(store, name)
    manifest = store.read_manifest(run)
    if manifest is None:
        raise UsageError(f"the manifest of run {run} is damaged; repeat its 'advbench matrix' command")
    return manifest


def read_results(store: Store, manifest: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """A run's results as far as they are in the store, and how many of its cells are not."""
    cells = {cell["key"]: cell for cell in manifest["cells"] if cell["key"]}
    stored = {key: summary for key, cell in cells.items() if (summary := _read(store, key, cell)) is not None}
    doubled = {
        int(place): summary
        for place, key in manifest.get("doubled", {}).items()
        if (summary := _read(store, key, manifest["cells"][int(place)])) is not None and summary.ok
    }
    return build_results(manifest, stored, doubled), len(cells) - len(stored)


def _read(store: Store, key: str, described: Mapping[str, Any]) -> Summary | None:
    """A cell of the store, of an attack as the manifest describes it."""
    record = store.read_record("cells", key, arrays=True)
    if record is None:
        return None
    minimal = described["attack_kind"] == "minimal"
    return summarise(record, described.get("norm") if minimal else None)  # earlier versions do not say the norm
