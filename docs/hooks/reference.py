"""Reference pages that are made of the parsers and the registry whenever the site is built."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from advbench.api import Component, Parameter
from advbench.api.parameters import format_value
from advbench.cli.main import COMMANDS
from advbench.cli.parser import CommandParser
from advbench.discovery.loading import discover

KINDS = {
    "attacks": "Attacks",
    "defenses": "Defenses",
    "models": "Models",
    "datasets": "Datasets",
}
CACHE = "in the user's cache folder"
"""What stands for a path that is another for every user."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages."""
    for path, content in (("reference/cli.md", cli_page()), ("reference/components.md", components_page())):
        files.append(File.generated(config, path, content=content))
    return files


def cli_page() -> str:
    """Every subcommand with its flags, as its parser has them."""
    parts = ["# Command line", "", "Exit codes: 0 success, 1 some cells failed, 2 usage error, 3 internal error,"]
    parts += ["4 plugin failure under `--strict-plugins`, 130 interrupted.", ""]
    parts += [
        "Every command has `--help`. `advbench --version` prints the version, and `advbench --print-completion SHELL`",
        "prints a script that completes commands and flags in `bash`, `zsh` or `fish`.",
        "",
    ]
    for name, text in COMMANDS.items():
        parser = CommandParser(prog=f"advbench {name}", add_help=False)
        module = importlib.import_module(f"advbench.cli.{name.replace('-', '_')}_command")
        module.add_arguments(parser)
        parts += [f"## advbench {name}", "", f"{text[0].upper()}{text[1:]}.", ""]
        actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not actions:
            parts += _table(parser)
        for name_of, part in (pair for action in actions for pair in action.choices.items()):
            parts += [f"### advbench {name} {name_of}", "", str(part.description), "", *_table(part)]
    return "\n".join(parts)


def _table(parser: argparse.ArgumentParser) -> list[str]:
    return ["| argument | what it does |", "| --- | --- |", *_rows(parser), ""]


def _rows(parser: argparse.ArgumentParser) -> Iterator[str]:
    formatter = argparse.HelpFormatter(parser.prog)
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        shown = ", ".join(f"`{_usage(action, flag)}`" for flag in action.option_strings or [""])
        text = formatter._expand_help(action).replace("|", "\\|")
        yield f"| {shown} | {text}{_default(action)} |"


def _default(action: argparse.Action) -> str:
    default = action.default
    silent = default is None or default in ([], argparse.SUPPRESS) or action.nargs == 0
    if silent or "default" in (action.help or ""):
        return ""
    return f" (default: {CACHE if isinstance(default, Path) else default})"


def _usage(action: argparse.Action, flag: str) -> str:
    if action.nargs == 0:
        return flag
    choices = "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    metavar = action.metavar if isinstance(action.metavar, str) else choices
    values = {"?": f"[{metavar}]", "*": f"[{metavar} …]", "+": f"{metavar} …"}
    several = " ".join([metavar] * action.nargs) if isinstance(action.nargs, int) else values.get(action.nargs or "")
    return f"{flag} {several or metavar}".strip().replace("|", "\\|")


def components_page() -> str:
    """Every built-in component with its parameters, as the registry has them."""
    registry = discover()
    parts = ["# Components", "", "The components of advbench. `advbench list` also shows those of your plugins.", ""]
    for kind, title in KINDS.items():
        parts += [f"## {title}", ""]
        for registered in registry.all(kind):
            if registered.plugin.distribution == "advbench":
                parts += _component(registered.component)
    return "\n".join(parts)


def _component(component: type[Component]) -> Iterator[str]:
    yield from (f"### {component.name}", "", component.summary(), "")
    parameters = component.parameters({})
    if parameters:
        yield from ("| parameter | default | allowed | what it does |", "| --- | --- | --- | --- |")
        yield from (_parameter(parameter) for parameter in parameters)
        yield ""
    if component.source:
        yield from (f"Source: {component.source}.", "")


def _parameter(parameter: Parameter) -> str:
    default: Any = "required" if parameter.required else f"`{format_value(parameter.default)}`"
    cells = (f"`{parameter.name}`", default, parameter.allowed(), parameter.help)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
