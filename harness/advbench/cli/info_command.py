"""``advbench info``: one component's parameters, plugin and source."""

from __future__ import annotations

import argparse
import inspect
from typing import TYPE_CHECKING

from advbench.cli.flags import add_plugin_flags

if TYPE_CHECKING:
    from rich.console import Console

    from advbench.discovery.registry import Registered


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("name", help="such as pgd, or foolbox:attack=L2PGD, whose parameters depend on the attack")
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    from advbench.errors import SpecError
    from advbench.session.opening import open_registry, tables
    from advbench.session.options import LoadOptions
    from advbench.specs import expand, parse_chain

    registry = open_registry(LoadOptions.of(vars(options)))
    terms = parse_chain(options.name)
    if len(terms) > 1:
        raise SpecError(f"{options.name!r}: one component at a time")
    name, given = next(expand(terms))[0]
    for registered in registry.find(name):
        registered.component.parse(given)  # says what is wrong with what was given
        _print(tables(), registered, given)
    return 0


def _print(console: Console, registered: Registered, given: dict[str, str]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from advbench.api.parameters import format_value

    component, plugin = registered.component, registered.plugin
    console.print(Text.assemble((component.name, "bold"), f"  {registered.kind[:-1]}"))
    console.print(Text((inspect.getdoc(component) or "") if component.summary() else "(no description)"))
    console.print()
    parameters = component.parameters(given)
    if parameters:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("parameter", "default", "allowed", "what it does"):
            table.add_column(heading, no_wrap=heading == "parameter", overflow="fold")
        for parameter in parameters:
            default = "(required)" if parameter.required else format_value(parameter.default)
            texts = (parameter.name, default, parameter.allowed(), parameter.help)
            table.add_row(*(Text(text) for text in texts))
        console.print(table)
    else:
        console.print("It takes no parameters.")
    facts = {
        "source": component.source or "—",
        "plugin": f"{plugin.name} of {plugin.provenance}",
        "class": f"{component.__module__}.{component.__qualname__}",
        "file": inspect.getsourcefile(component) or "—",
    }
    for label, text in facts.items():
        console.print(Text.assemble((f"{label:<8}", "dim"), text), soft_wrap=True)
