"""What ``advbench figures`` does."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from advbench.analysis import CellExamples, cell_details
from advbench.errors import UsageError, describe
from advbench.evaluation.work.example_images import ExampleImages
from advbench.session.example_images import example_images_of
from advbench.session.opening import messages, open_store, set_up_logging
from advbench.session.options import LoadOptions
from advbench.session.stored_runs import find_run, read_results
from advbench.store import Store

__all__ = ["draw_figures"]

IMAGES = {"attacks", "reconstructions", "strips"}
"""The kinds of figures for which components are loaded."""


def draw_figures(options: argparse.Namespace) -> int:
    """Draws every figure of a run.

    Raises:
        UsageError: The run or the folder cannot be used, or matplotlib is missing.
    """
    try:
        from advbench.report import figures
    except ImportError as error:
        raise UsageError(f"figures need matplotlib: pip install 'advbench[figures]' ({describe(error)})") from error
    console, load = messages(), LoadOptions.of(vars(options))
    set_up_logging(console, 0)
    store, folder = open_store(load), options.output
    manifest = find_run(store, options.run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--output {folder}: cannot be made: {error.strerror}") from error
    results, _ = read_results(store, manifest)
    cells = manifest["cells"]
    details = _details(store, manifest)
    examples: dict[int, CellExamples] = {}
    if options.samples and IMAGES & set(options.only):
        shown, notes = _example_images(example_images_of(load, console, manifest, options.samples), cells, details)
        examples |= shown
        for note in notes:
            console.print(note, markup=False, soft_wrap=True)
    everything = (
        *figures.draw_images(cells, examples, options.samples),
        *figures.draw_confusions(cells, details, manifest.get("class_names", {})),
        *figures.draw_charts(results),
    )
    drawings = [drawn for drawn in figures.distinct(everything) if drawn.name.partition("-")[0] in options.only]
    for drawn in drawings:
        try:
            paths = figures.save(drawn, folder, list(dict.fromkeys(options.format)))
        except OSError as error:
            raise UsageError(f"--output {folder}: {drawn.name} cannot be written: {error.strerror}") from error
        for path in paths:
            console.print(f"wrote {path}: {drawn.what}", markup=False, soft_wrap=True)
    if not drawings:
        console.print(f"run {manifest['run']} has nothing of this to draw")
    return 0


def _details(store: Store, manifest: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """What the records of the finished cells tell, by their places."""
    found = {}
    for place, described in enumerate(manifest["cells"]):
        record = store.read_record("cells", described["key"], arrays=True) if described["key"] else None
        if record is not None and record["status"] == "ok":
            found[place] = cell_details(record, described.get("norm"))
    return found


def _example_images(
    examples: ExampleImages, cells: list[dict[str, Any]], finished: Mapping[int, Any]
) -> tuple[dict[int, CellExamples], list[str]]:
    """The samples of the finished cells, and why some have none."""
    found, notes = {}, dict[str, None]()
    for place in finished:
        try:
            found[place] = examples.of(cells[place])
        except (Exception, SystemExit) as error:  # noqa: PERF203  each cell by itself
            what = ", ".join(cells[place]["short"][name] for name in ("dataset", "model", "defense"))
            notes[f"no images of {what}: {describe(error)}"] = None
    return found, list(notes)
