"""``advbench list``: the registered components."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from advbench.cli.docstrings import plain
from advbench.cli.flags import add_plugin_flags
from advbench.cli.parser import suggest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from advbench.discovery.registry import Registered, Registry

_KINDS = ("attacks", "defenses", "models", "datasets", "executors", "reporters")
_USUAL = _KINDS[:4]
_NAMED = ("suites", "studies")
"""What else plugins register, and no component."""
_ALL = (*_KINDS, *_NAMED)
_WIDE = 120
"""With fewer columns in the terminal, source and plugin are left out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    kinds = parser.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"one or more of {', '.join(_ALL)} (default: the first four)"
    )
    suggest(kinds, *_ALL)
    parser.add_argument("--format", choices=("table", "json"), default="table", help="how to print")
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    from advbench.api.component import closest
    from advbench.errors import UsageError
    from advbench.printable import json_text, printable
    from advbench.session.opening import open_registry, tables
    from advbench.session.options import LoadOptions

    for kind in options.kinds:
        if kind not in _ALL:
            hint = closest(kind, list(_ALL)) or f"there are: {', '.join(_ALL)}"
            raise UsageError(f"unknown kind {kind!r}; {hint}")
    registry = open_registry(LoadOptions.of(vars(options)))
    kinds = options.kinds or _USUAL
    components = [registered for kind in kinds if kind in _KINDS for registered in registry.all(kind)]
    if options.format == "json":
        entries: list[Mapping[str, object]] = [_described(registered) for registered in components]
        entries += [entry for kind in kinds if kind in _NAMED for entry in _named(registry, kind)]
        print(json_text(entries, indent=2))
        return 0

    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = tables()
    headings = ("name", "what it is", "source", "plugin")[: 4 if console.width >= _WIDE else 2]
    for kind in kinds:
        rows = [
            (one.component.name, plain(one.component.summary()), one.component.source or "—", one.plugin.provenance)
            for one in components
            if one.kind == kind
        ]
        if kind in _NAMED:
            named = _named(registry, kind)
            rows = [(one["name"], one["summary"], "—", f"{one['distribution']} {one['version']}") for one in named]
        if not rows:
            console.print(f"no {kind}")
            continue
        table = Table(title=Text(kind, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in headings:
            table.add_column(heading, no_wrap=heading == "name", overflow="fold")
        for texts in (row[: len(headings)] for row in rows):
            table.add_row(*(Text(printable(text)) for text in texts))
        console.print(table)
    if len(headings) == 2 and components:
        console.print("'advbench info NAME' shows parameters, source and plugin of one of them")
    return 0


def _described(registered: Registered) -> dict[str, object]:
    component, plugin = registered.component, registered.plugin
    return {
        "kind": registered.kind,
        "name": component.name,
        "plugin": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "summary": component.summary(),
        "source": component.source,
        "parameters": {parameter.name: parameter.default for parameter in component.parameters()},
    }


def _named(registry: Registry, kind: str) -> list[dict[str, str]]:
    """The suites or studies there are, by name; a suite that cannot be read has the reason as its summary."""
    from advbench._version import __version__
    from advbench.errors import UsageError
    from advbench.specs import load_suite, shipped_suites

    studies, held = registry.studies, "commands" if kind == "studies" else kind
    core = shipped_suites() if kind == "suites" else []
    entries = []
    for name in sorted([*core, *studies.names(held)]):
        try:
            summary = load_suite(name, studies).description if kind == "suites" else studies.command(name).help
        except UsageError as error:
            summary = f"(cannot be read: {error})"
        plugin = None if name in core else studies.plugin_of(held, name)
        entries.append(
            {
                "kind": kind,
                "name": name,
                "plugin": plugin.name if plugin else "core",
                "distribution": plugin.distribution if plugin else "advbench",
                "version": plugin.version if plugin else __version__,
                "summary": summary,
            }
        )
    return entries
