"""``advbench info``: the parameters, plugin and source of one component."""

from __future__ import annotations

import argparse
import inspect
from typing import TYPE_CHECKING

from advbench.cli.docstrings import plain, unwrapped, without_parameters
from advbench.cli.flags import add_plugin_flags

if TYPE_CHECKING:
    from rich.console import Console

    from advbench.discovery.registry import Registered, Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("name", help="a component, such as pgd or foolbox:attack=L2PGD, a suite or a study")
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    from advbench.errors import SpecError
    from advbench.session.opening import open_registry, tables
    from advbench.session.options import LoadOptions
    from advbench.specs import expand, parse_chain

    registry = open_registry(LoadOptions.of(vars(options)))
    if _print_named(tables(), registry, options.name):
        return 0
    terms = parse_chain(options.name)
    if len(terms) > 1:
        raise SpecError(f"{options.name!r}: give one component at a time")
    name, given = next(expand(terms))[0]
    for registered in registry.find(name):
        registered.component.parse(given)  # raises an error if a parameter is wrong
        _print(tables(), registered, given)
    return 0


def _print_named(console: Console, registry: Registry, name: str) -> bool:
    """Shows the suite or study of this name, where no component has it; returns whether there is one."""
    from rich.text import Text

    from advbench.specs import shipped_suites

    if registry.holds(name):
        return False
    studies = registry.studies
    a_suite, a_study = name in shipped_suites() or studies.holds("suites", name), studies.holds("commands", name)
    if a_suite:
        _print_suite(console, registry, name)
    if a_study:
        console.print(Text.assemble("\n" if a_suite else "", (name, "bold"), "  study"))
        console.print(Text(studies.command(name).help))
        console.print(Text(f"'advbench reproduce {name}' runs it"))
        plugin = studies.plugin_of("commands", name)
        _print_fact(console, f"{'plugin':<9}", f"{plugin.name} of {plugin.provenance}")
    return a_suite or a_study


def _print_suite(console: Console, registry: Registry, name: str) -> None:
    from rich.text import Text

    from advbench.specs import AXES, EFFORTS, FIT_SAMPLES, FLOAT32, load_suite

    studies, suite = registry.studies, load_suite(name, registry.studies)
    console.print(Text.assemble((name, "bold"), "  suite"))
    console.print(Text(suite.description or "(no description)"))
    products = [
        {axis: ", ".join(getattr(part, axis)) for axis in AXES}
        | {key: str(value) for key in EFFORTS if (value := getattr(part, key)) is not None}
        for part in suite.products
    ]
    shared = {key: text for key, text in products[0].items() if all(other.get(key) == text for other in products)}
    facts = list(shared.items())
    differ = any(product.keys() > shared.keys() for product in products)
    for number, product in enumerate(products, 1):
        facts += [(f"part {number}", "")] if differ else []
        facts += [(f"  {key}", text) for key, text in product.items() if key not in shared]
    count = "all" if suite.limit is None else f"{suite.limit:,}"
    facts.append(("samples", f"{count} of each dataset, seed {suite.seed}"))
    facts.append(("draws", f"{suite.eot} for a gradient, {suite.score_draws} for the score, of stochastic defenses"))
    facts += [("queries", f"at most {suite.max_queries:,} of an attack about a sample")] if suite.max_queries else []
    facts += [("surrogate", ", ".join(suite.surrogate))] if suite.surrogate else []
    of = f" of {suite.fit_data}" if suite.fit_data else ""
    facts += [("fits", f"to {suite.fit_samples:,} images{of}")] if of or suite.fit_samples != FIT_SAMPLES else []
    facts += [("precision", suite.precision)] if suite.precision != FLOAT32 else []
    if studies.holds("suites", name):
        plugin = studies.plugin_of("suites", name)
        facts += [("plugin", f"{plugin.name} of {plugin.provenance}"), ("file", str(studies.suite(name).file))]
    width = max(len(label) for label, _ in facts) + 1
    for label, text in facts:
        _print_fact(console, f"{label:<{max(11, width)}}", text)


def _print_fact(console: Console, label: str, text: str) -> None:
    """Prints a label and a text; in a terminal, the text is wrapped between words beside the label."""
    from rich.table import Table
    from rich.text import Text

    if not console.is_terminal:
        console.print(Text.assemble((label, "dim"), text), soft_wrap=True)
        return
    grid = Table.grid()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(label, "dim"), Text(text))
    console.print(grid)


def _print(console: Console, registered: Registered, given: dict[str, str]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from advbench.api.parameters import format_value
    from advbench.printable import printable

    component, plugin = registered.component, registered.plugin
    console.print(Text.assemble((component.name, "bold"), f"  {registered.kind[:-1]}"))
    text = without_parameters(inspect.getdoc(component) or "") if component.summary() else "(no description)"
    console.print(Text(unwrapped(text)))  # the table below has the parameters
    console.print()
    parameters = component.parameters(given)
    if parameters:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("parameter", "default", "allowed", "what it does"):
            table.add_column(heading, no_wrap=heading == "parameter", overflow="fold")
        for parameter in parameters:
            default = "(required)" if parameter.required else format_value(parameter.default)
            texts = (parameter.name, default, parameter.allowed(), plain(parameter.help))
            table.add_row(*(Text(printable(text)) for text in texts))
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
        _print_fact(console, f"{label:<8}", printable(text))
