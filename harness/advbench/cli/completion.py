"""Scripts that complete the command line in a shell. Imports no torch, and of plugins only studies."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import shtab

from advbench.discovery.studies import core_suites, discover_studies

__all__ = ["completion_script"]


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """A script that completes commands, flags, and what flags and arguments take.

    That is their choices and suggestions, and files or folders for those whose placeholder says so, such as ``FILE``.

    Args:
        parser: The whole parser, with the arguments of every command; its actions are changed.
        shell: ``bash``, ``zsh`` or ``fish``.
    """
    for action in _actions(parser):
        _complete(action)
    return str(shtab.complete(parser, shell=shell))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The actions of a parser and of the parsers below it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _actions(below)
        else:
            yield action


def _complete(action: argparse.Action) -> None:
    """Says what an action takes, as shtab asks for it."""
    placeholders = str(action.metavar or "").split("|")
    words = [*(action.choices or ()), *getattr(action, "suggestions", ())]
    if action.dest == "suite":
        words += sorted([*core_suites(), *discover_studies().names("suites")])
    if "FILE" in placeholders and words:
        action.complete = _words_or_files(action.dest, words)  # type: ignore[attr-defined]
    elif "FILE" in placeholders:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif "DIR" in placeholders:
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    elif words:
        action.choices = words


def _words_or_files(name: str, words: list[str]) -> dict[str, Any]:
    """How each shell completes some words and files."""
    listed, function = " ".join(words), f"_advbench_{name}_or_file"
    return {
        "bash": function,
        "zsh": function,
        "fish": f"{listed} (__fish_complete_path (commandline -ct))",
        "preamble": {
            "bash": f'{function}() {{\n  compgen -W "{listed}" -- "$1"\n  compgen -f -- "$1"\n}}',
            "zsh": f'{function}() {{\n  _alternative "{name}s:{name}:({listed})" "files:file:_files"\n}}',
        },
    }
