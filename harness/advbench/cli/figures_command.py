"""``advbench figures``: figures of a stored run, for print."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advbench.cli.flags import add_data_dir, add_device, add_plugin_flags, add_run, add_store
from advbench.session.values import at_least

if TYPE_CHECKING:
    from advbench.analysis import CellExamples
    from advbench.evaluation.work.example_images import ExampleImages
    from advbench.store import Store

KINDS = ("attacks", "reconstructions", "strips", "confusion", "eps", "sweep", "scatter")
"""The kinds of figures. The names of their files begin with these."""

OF_IMAGES = {"attacks", "reconstructions", "strips"}
"""The kinds of figures that show images, for which components are loaded."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_run(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder to write to; created if missing"
    )
    parser.add_argument(
        "--format", nargs="+", choices=("png", "svg", "pdf"), default=["png"], help="file formats (default: png)"
    )
    parser.add_argument(
        "--samples",
        type=at_least(0),
        default=8,
        metavar="N",
        help="number of samples in figures that show images; with 0, these figures are left out",
    )
    parser.add_argument("--attacks", nargs="+", default=[], metavar="SPEC", help="figures of these attacks alone")
    parser.add_argument("--defenses", nargs="+", default=[], metavar="SPEC", help="figures of these defenses alone")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--only", nargs="+", choices=KINDS, default=[], help="all figures of these kinds (default: a dozen for a paper)"
    )
    which.add_argument("--all", action="store_true", help="all figures")
    add_store(parser)
    add_data_dir(parser)
    add_device(parser)
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        UsageError: The run or the folder cannot be used, or matplotlib is missing.
    """
    from advbench.errors import UsageError, describe
    from advbench.session.cell_filter import matching_cells, only_cells
    from advbench.session.opening import messages, open_store, print_line, set_up_logging
    from advbench.session.options import LoadOptions
    from advbench.session.stored_runs import find_run, read_results

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
    wanted = matching_cells(manifest, options.attacks, options.defenses)
    results, _ = read_results(store, only_cells(manifest, wanted))
    cells, ranking = manifest["cells"], figures.Ranking(results["cells"])
    details = _details(store, manifest, wanted)
    examples: dict[int, CellExamples] = {}
    if options.samples and OF_IMAGES & set(options.only or KINDS):
        from advbench.session.example_images import example_images_of

        images = example_images_of(load, console, manifest, options.samples)
        every = options.all or options.only
        shown = list(details) if every else figures.cells_with_images(cells, details, ranking)
        examples, notes = _example_images(images, cells, shown)
        for note in notes:
            print_line(console, note)
    drawings = (
        *figures.draw_images(cells, examples, options.samples),
        *figures.draw_confusions(cells, details, manifest.get("class_names", {})),
        *figures.draw_charts(results),
    )
    selected = list(figures.distinct(drawings))
    if options.only:
        selected = [drawing for drawing in selected if drawing.kind in options.only]
    elif not options.all:
        selected = figures.dozen(selected, ranking)
    for drawing in selected:
        try:
            paths = figures.save(drawing, folder, list(dict.fromkeys(options.format)))
        except OSError as error:
            raise UsageError(f"--output {folder}: {drawing.name} cannot be written: {error.strerror}") from error
        for path in paths:
            print_line(console, f"wrote {path}: {drawing.what}")
    if not options.all and not options.only and len(selected) == figures.MOST:
        print_line(console, f"wrote {figures.MOST} figures; --all writes every figure, --only KIND all of a kind")
    if not selected:
        print_line(console, f"run {manifest['run']} has no data for these figures")
    return 0


def _details(store: Store, manifest: Mapping[str, Any], wanted: Collection[int]) -> dict[int, dict[str, Any]]:
    """Confusion matrix and histograms of finished cells, by index: of the wanted ones and of the undefended model's."""
    from advbench.analysis import cell_details

    cells, details = manifest["cells"], {}
    groups = {(cells[index]["dataset"], cells[index]["model"], cells[index]["attack"]) for index in wanted}
    for index, described in enumerate(cells):
        group = described["dataset"], described["model"], described["attack"]
        if index not in wanted and not (described["identity"] and group in groups):
            continue
        record = store.read_record("cells", described["key"], arrays=True) if described["key"] else None
        if record is not None and record["status"] == "ok":
            details[index] = cell_details(record, described.get("norm"))
    return details


def _example_images(
    images: ExampleImages, cells: list[dict[str, Any]], finished: Iterable[int]
) -> tuple[dict[int, CellExamples], list[str]]:
    """The samples of the finished cells, and notes on cells whose samples cannot be loaded."""
    from advbench.errors import describe

    examples, notes = {}, dict[str, None]()
    for index in finished:
        try:
            examples[index] = images.of(cells[index])
        except (Exception, SystemExit) as error:  # noqa: PERF203  an error in one cell leaves the others
            what = ", ".join(cells[index]["short"][name] for name in ("dataset", "model", "defense"))
            notes[f"no images of {what}: {describe(error)}"] = None
    return examples, list(notes)
