"""``advbench plugins``: what each plugin registers, and its problems."""

from __future__ import annotations

import argparse

from advbench.cli.flags import add_plugin_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("--format", choices=("table", "json"), default="table", help="how to print")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the tracebacks of problems")
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    from advbench.printable import json_text, printable
    from advbench.session.opening import open_registry, tables
    from advbench.session.options import LoadOptions

    registry = open_registry(LoadOptions.of(vars(options)))
    if options.format == "json":
        rows = [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "module": plugin.module,
                "registers": [f"{kind[:-1]} {name}" for kind, name in plugin.registered],
                "problems": [p.message for p in registry.problems_of(plugin)],
            }
            for plugin in registry.plugins
        ]
        print(json_text(rows, indent=2))
        return 0

    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = tables()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("plugin", "distribution", "registers", "problems"):
        table.add_column(heading, overflow="fold")
    for plugin in registry.plugins:
        by_kind: dict[str, list[str]] = {}
        for kind, name in plugin.registered:
            by_kind.setdefault(kind, []).append(name)
        registers = "\n".join(f"{kind}: {', '.join(names)}" for kind, names in by_kind.items())
        problems = registry.problems_of(plugin)
        table.add_row(
            Text(printable(plugin.name)),
            Text(printable(plugin.provenance)),
            Text(registers or "—"),
            Text("\n".join(problem.message for problem in problems) or "none", style="red" if problems else ""),
        )
    console.print(table)
    if options.verbose:
        for problem in registry.problems:
            console.print(Text(printable(f"{problem}\n{problem.traceback}", keep="\n")), soft_wrap=True)
    return 0
