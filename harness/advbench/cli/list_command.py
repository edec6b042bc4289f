"""``advbench list``: the components there are."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from advbench.cli.flags import add_plugin_flags

if TYPE_CHECKING:
    from advbench.discovery.registry import Registered

_KINDS = ("attacks", "defenses", "models", "datasets", "executors", "reporters")
_USUAL = _KINDS[:4]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"one or more of {', '.join(_KINDS)}; without: the first four"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="how to print")
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    from advbench.api.component import closest
    from advbench.errors import UsageError
    from advbench.session.opening import open_registry, tables
    from advbench.session.options import LoadOptions

    for kind in options.kinds:
        if kind not in _KINDS:
            hint = closest(kind, list(_KINDS)) or f"there are: {', '.join(_KINDS)}"
            raise UsageError(f"unknown kind {kind!r}; {hint}")
    registry = open_registry(LoadOptions.of(vars(options)))
    found = [registered for kind in options.kinds or _USUAL for registered in registry.all(kind)]
    if options.format == "json":
        print(json.dumps([_described(registered) for registered in found], indent=2, ensure_ascii=False))
        return 0

    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = tables()
    for kind in options.kinds or _USUAL:
        members = [registered for registered in found if registered.kind == kind]
        if not members:
            console.print(f"no {kind}")
            continue
        table = Table(title=Text(kind, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("name", "what it is", "source", "plugin"):
            table.add_column(heading, no_wrap=heading == "name", overflow="fold")
        for registered in members:
            component = registered.component
            texts = (component.name, component.summary(), component.source or "—", registered.plugin.provenance)
            table.add_row(*(Text(text) for text in texts))
        console.print(table)
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
