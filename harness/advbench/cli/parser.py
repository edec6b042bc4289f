"""Argument parsers that report errors in one line, with the nearest valid word. Imports neither torch nor rich."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from advbench.errors import UsageError, nearest
from advbench.printable import printable
from advbench.session.values import unknown_choice

__all__ = ["CommandParser", "HelpFormatter", "suggest"]

_UNRECOGNIZED = re.compile(r"unrecognized arguments: (\S+)")
_INVALID_CHOICE = re.compile(r"argument (.+?): invalid choice: '(.*?)' \(choose from (.*)\)")


class CommandParser(argparse.ArgumentParser):
    """An argument parser that raises :class:`UsageError` instead of printing its usage and exiting.

    Attributes:
        delegate: Returns the parser that parses given words in place of this one; None if this one does.
    """

    delegate: Callable[[Sequence[str]], CommandParser] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses the words, with the delegate if there is one; the delegate gets the defaults of this parser."""
        if self.delegate is None:
            return super().parse_known_args(args, namespace)
        other = self.delegate(args)
        other.set_defaults(**{**self._defaults, **other._defaults})
        return other.parse_known_args(args, namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Prints help, in which texts of plugins may have characters that do not print."""
        super()._print_message(printable(message, keep="\n"), file)

    def error(self, message: str) -> NoReturn:
        """Raises the error with the nearest valid flag or choice."""
        unrecognized = _UNRECOGNIZED.match(message)
        invalid = _INVALID_CHOICE.match(message)
        if unrecognized:
            word = unrecognized.group(1)
            flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
            near = nearest(word, flags) if word.startswith("-") else ""
            hint = f"did you mean {near}?" if near else f"'{self.prog} --help' lists the flags"
            message = f"unknown argument {word}; {hint}"
        elif invalid:
            flag, word, choices = invalid.groups()
            names = [choice.strip(" '") for choice in choices.split(",")]
            message = f"{flag}: {unknown_choice(word, names)}"
        else:
            message = message.removeprefix("argument ")
        raise UsageError(message)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except for None, lists and switches."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default in (None, "") or isinstance(action.default, list) or action.nargs == 0
        return action.help if silent else super()._get_help_string(action)


def suggest(action: argparse.Action, *words: str) -> None:
    """Words that shell completion offers for an argument that takes other words, too."""
    action.suggestions = words  # type: ignore[attr-defined]
