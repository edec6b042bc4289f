"""``advbench report``: an earlier run as one page for the browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from advbench.cli.flags import add_data_dir, add_device, add_plugin_flags, add_run, add_store
from advbench.cli.parser import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_run(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("report.html"), metavar="FILE", help="the page to write, an .html file"
    )
    parser.add_argument(
        "--samples", type=at_least(0), default=6, metavar="N", help="samples shown of each cell; 0 loads no component"
    )
    add_store(parser)
    add_data_dir(parser)
    add_device(parser)
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    from advbench.cli.exhibition import exhibits_of
    from advbench.cli.page_details import page_details
    from advbench.cli.session import messages, open_store, set_up_logging
    from advbench.cli.stored_runs import find_run, read_results
    from advbench.report import Html, plan_outputs, write_export

    console = messages()
    set_up_logging(console, 0)
    store = open_store(options)
    manifest = find_run(store, options.run)
    (export,) = plan_outputs([Html()], [str(options.output)], manifest["name"], "--output")
    results, missing = read_results(store, manifest)
    exhibits = exhibits_of(options, console, manifest, options.samples) if options.samples else None
    details = page_details(store, manifest, exhibits)
    write_export(export, {**results, "details": details})
    for note in details["notes"]:
        console.print(note, markup=False, soft_wrap=True)
    console.print(f"wrote {export.path}", markup=False, soft_wrap=True)
    if missing:
        total = sum(bool(cell["key"]) for cell in manifest["cells"])
        console.print(f"{missing} of {total} cells have not been run; repeat the command of the run to run them")
    return 0
