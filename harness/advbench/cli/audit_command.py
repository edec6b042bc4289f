"""``advbench audit``: checks a run for signs that its numbers cannot be trusted."""

from __future__ import annotations

import argparse

from advbench.cli.flags import add_run, add_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_run(parser)
    add_store(parser)
    parser.add_argument("--format", choices=("table", "json"), default="table", help="how to print the findings")


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit code is 1 if there is a finding."""
    from advbench.report import print_audit, render_audit
    from advbench.session.opening import messages, open_store, set_up_logging, tables
    from advbench.session.options import LoadOptions
    from advbench.session.shown_runs import read_together, runs_together

    console = messages()
    set_up_logging(console, 0)
    store = open_store(LoadOptions.of(vars(options)))
    manifests = runs_together(store, options.run)
    results, missing = read_together(store, manifests)
    if options.format == "json":
        print(render_audit(results), end="")
    else:
        print_audit(tables(), results)
    if missing:
        console.print(f"{missing} and were not checked")
    return int(bool(results["findings"]))
