"""``advbench check``: holds components to their contracts."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from advbench.cli.flags import add_data_dir, add_plugin_flags

if TYPE_CHECKING:
    from rich.console import Console

    from advbench.discovery import Registry
    from advbench.testing import Finding

KINDS = ("attacks", "defenses", "models", "datasets")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument(
        "components",
        nargs="*",
        metavar="SPEC",
        help="such as jpeg or pgd:eps=0.1 (without any: all of the files of --plugin, or else all that there is)",
    )
    parser.add_argument("--all-rules", action="store_true", help="also list the rules that are kept")
    add_data_dir(parser)
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit code is 1 where a component breaks its contract."""
    from advbench.cli.session import data_sources, messages, open_registry, tables
    from advbench.errors import UsageError
    from advbench.testing import check

    registry = open_registry(options)
    specs = options.components or _everything(registry)
    if not specs:
        raise UsageError("there is nothing to check; give a SPEC or --plugin FILE")
    for spec in options.components:
        registry.find(spec.partition(":")[0])  # whatever is misspelt is said before any work
    console, sources = tables(), data_sources(options, messages())
    broken = 0
    for spec in specs:
        findings = check(spec, registry=registry, sources=sources)
        broken += any(finding.passed is False for finding in findings)
        _print(console, spec, findings, whole=options.all_rules)
    console.print(_verdict(broken, len(specs)))
    return int(broken > 0)


def _everything(registry: Registry) -> list[str]:
    """The components of the files that were given, or else all, at their defaults."""
    everything = [registered for kind in KINDS for registered in registry.all(kind)]
    of_files = [registered for registered in everything if registered.plugin.from_file]
    return [
        registered.component.name
        for registered in of_files or everything
        if not any(parameter.required for parameter in registered.component.parameters())
    ]


def _print(console: Console, spec: str, findings: list[Finding], *, whole: bool) -> None:
    from rich.text import Text

    kept = sum(finding.passed is True for finding in findings)
    failed = [finding for finding in findings if finding.passed is False]
    skipped = len(findings) - kept - len(failed)
    told = f"{kept} rules kept" + (f", {skipped} not asked" if skipped else "")
    mark = Text("FAIL ", "bold red") if failed else Text("ok   ", "bold green")
    console.print(Text.assemble(mark, (spec, "bold"), f"  {told}", f", {len(failed)} broken" if failed else ""))
    for finding in findings:
        if finding.passed is False:
            console.print(Text.assemble(("     ", ""), (finding.rule, "bold")), soft_wrap=True)
            for label, text in (
                ("expected", finding.expected),
                ("seen", finding.seen),
                ("contract", finding.contract),
            ):
                console.print(Text.assemble((f"       {label:<9}", "dim"), text), soft_wrap=True)
        elif whole:
            console.print(Text(f"     {finding}", "dim"), soft_wrap=True)


def _verdict(broken: int, count: int) -> str:
    if not broken:
        return f"\n{'it keeps' if count == 1 else f'all {count} keep'} the contract"
    return f"\n{broken} of {count} {'breaks' if broken == 1 else 'break'} the contract"
