"""``advbench leaderboard``: shows the leaderboard of an earlier run again, computing nothing."""

from __future__ import annotations

import argparse

from advbench.cli.flags import add_export, add_plugin_flags, add_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("run", nargs="?", default="latest", help="a run's id, the beginning of one, or 'latest'")
    add_export(parser)
    add_store(parser)
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    from advbench.analysis import build_results
    from advbench.cli.session import messages, open_registry, open_store, set_up_logging, tables
    from advbench.errors import UsageError
    from advbench.report import plan_exports, print_results, write_export

    console = messages()
    set_up_logging(console, 0)
    store = open_store(options)
    runs = list(store.runs())
    if not runs:
        raise UsageError(f"the store {store.root} holds no run yet; 'advbench matrix' makes one")
    found = runs[:1] if options.run == "latest" else [name for name in runs if name.startswith(options.run)]
    if len(found) != 1:
        what = "is the beginning of several runs" if found else "names no run"
        raise UsageError(f"{options.run!r} {what} in {store.root}; there are: {', '.join(runs[:5])}")
    manifest = store.read_manifest(found[0])
    if manifest is None:
        raise UsageError(f"the manifest of run {found[0]} is damaged; repeat its 'advbench matrix' command")
    exports = plan_exports(open_registry(options), options.export, manifest["name"]) if options.export else []
    keys = [cell["key"] for cell in manifest["cells"] if cell["key"]]
    records = {key: record for key in keys if (record := store.read_record("cells", key)) is not None}
    results = build_results(manifest, records)
    for export in exports:
        write_export(export, results)
        console.print(f"wrote {export.path}", markup=False, soft_wrap=True)
    print_results(tables(), results)
    missing = len(keys) - len(records)
    if missing:
        console.print(f"{missing} of {len(keys)} cells have not been run; repeat the command to run them")
    return 0
