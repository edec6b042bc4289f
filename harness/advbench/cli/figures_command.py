"""``advbench figures``: figures of a stored run, for print."""

from __future__ import annotations

import argparse
from pathlib import Path

from advbench.cli.flags import add_data_dir, add_device, add_plugin_flags, add_run, add_store
from advbench.session.figures import FORMATS, KINDS, figure_folder, save_figures, select_figures
from advbench.session.values import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_run(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder to write to; created if missing"
    )
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=["png"], help="file formats (default: png)")
    parser.add_argument(
        "--samples",
        type=at_least(0),
        default=8,
        metavar="N",
        help="number of samples in figures that show images; with 0, these figures are left out",
    )
    parser.add_argument("--attacks", nargs="+", default=[], metavar="SPEC", help="draw only figures of these attacks")
    parser.add_argument("--defenses", nargs="+", default=[], metavar="SPEC", help="draw only figures of these defenses")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--only",
        nargs="+",
        choices=KINDS,
        default=[],
        help="draw all figures of these kinds (default: at most a dozen figures)",
    )
    which.add_argument("--all", action="store_true", help="draw all figures of the run")
    add_store(parser)
    add_data_dir(parser)
    add_device(parser)
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        UsageError: The run or the folder cannot be used, or matplotlib is missing.
    """
    from advbench.session.cell_filter import matching_cells, only_cells
    from advbench.session.example_images import example_images_of
    from advbench.session.opening import messages, open_store, print_line, set_up_logging
    from advbench.session.options import LoadOptions
    from advbench.session.shown_runs import read_together, runs_together

    console, load = messages(), LoadOptions.of(vars(options))
    set_up_logging(console, 0)
    store, given_as = open_store(load), f"--output {options.output}"
    manifests = runs_together(store, options.run)
    manifest = manifests[0]
    folder = figure_folder(options.output, given_as)
    from advbench.report.figures import MOST  # matplotlib is known to be there now

    wanted = matching_cells(manifest, options.attacks, options.defenses)
    results, _ = read_together(store, [only_cells(one, wanted) for one in manifests])
    drawings, notes = select_figures(
        store,
        manifest,
        results,
        wanted,
        kinds=options.only or (KINDS if options.all else None),
        samples=options.samples,
        examples=lambda: example_images_of(load, console, manifest, options.samples),
    )
    for note in notes:
        print_line(console, note)
    for drawing, paths in save_figures(drawings, folder, list(dict.fromkeys(options.format)), given_as):
        for path in paths:
            print_line(console, f"wrote {path}: {drawing.what}")
    if len(drawings) == MOST and not options.all and not options.only:
        print_line(console, f"wrote {MOST} figures; --all writes every figure, --only KIND all of a kind")
    if not drawings:
        print_line(console, f"run {manifest['run']} has no data for these figures")
    return 0
