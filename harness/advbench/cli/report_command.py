"""``advbench report``: a stored run as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from advbench.cli.flags import add_data_dir, add_device, add_plugin_flags, add_reference, add_rows, add_run, add_store
from advbench.session.values import at_least

if TYPE_CHECKING:
    from advbench.evaluation.work.examples.example_images import ExampleImages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_run(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("report.html"), metavar="FILE", help="the page to write, an .html file"
    )
    parser.add_argument(
        "--samples",
        type=at_least(0),
        default=6,
        metavar="N",
        help="number of samples shown for each cell; for more than 6, the components of the run are loaded",
    )
    add_rows(parser)
    add_reference(parser)
    add_store(parser)
    add_data_dir(parser)
    add_device(parser)
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    from advbench.report import Html, plan_outputs, write_export
    from advbench.session.opening import messages, open_store, print_line, set_up_logging
    from advbench.session.options import LoadOptions
    from advbench.session.page_details import page_details
    from advbench.session.shown_runs import on_boards, read_together, runs_together

    console = messages()
    set_up_logging(console, 0)
    load = LoadOptions.of(vars(options))
    store = open_store(load)
    manifests = runs_together(store, options.run)
    manifest = manifests[0]
    (export,) = plan_outputs([Html()], [str(options.output)], manifest["name"], "--output")
    results, missing = read_together(store, manifests)
    results = on_boards(results, manifest, rows=options.rows, reference=options.reference)

    def examples() -> ExampleImages:
        from advbench.session.example_images import example_images_of  # it imports torch

        return example_images_of(load, console, manifest, options.samples)

    details = page_details(store, manifest, examples if options.samples else None, options.samples)
    write_export(export, {**results, "details": details})
    for note in details["notes"]:
        print_line(console, note)
    print_line(console, f"wrote {export.path}")
    if missing:
        console.print(f"{missing}; repeat the command of the run to run them")
    return 0
