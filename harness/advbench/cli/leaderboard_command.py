"""``advbench leaderboard``: shows the leaderboard of a stored run without computing anything."""

from __future__ import annotations

import argparse

from advbench.cli.flags import add_export, add_format, add_plugin_flags, add_reference, add_rows, add_run, add_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_run(parser)
    add_export(parser)
    add_format(parser)
    add_rows(parser)
    add_reference(parser)
    add_store(parser)
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    from advbench.report import plan_exports, print_leaderboards, write_export
    from advbench.session.opening import messages, open_registry, open_store, print_line, set_up_logging, tables
    from advbench.session.options import LoadOptions
    from advbench.session.page_details import with_page_details
    from advbench.session.shown_runs import on_boards, read_together, runs_together

    console = messages()
    set_up_logging(console, 0)
    load = LoadOptions.of(vars(options))
    store = open_store(load)
    manifests = runs_together(store, options.run)
    manifest = manifests[0]
    exports = plan_exports(open_registry(load), options.export, manifest["name"]) if options.export else []
    results, missing = read_together(store, manifests)
    results = on_boards(results, manifest, rows=options.rows, reference=options.reference)
    exported = with_page_details(results, exports, store, manifest, None)
    for export in exports:
        write_export(export, exported)
        print_line(console, f"wrote {export.path}")
    print_leaderboards(tables(), results, options.format)
    if missing:
        console.print(f"{missing}; repeat the command to run them")
    return 0
