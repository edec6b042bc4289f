"""Argument parsing whose errors are one line with the nearest valid word. Imports neither torch nor rich."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from advbench.errors import UsageError

__all__ = ["CommandParser", "HelpFormatter", "at_least", "device", "existing_folder", "folder", "gibibytes", "seconds"]

_UNRECOGNIZED = re.compile(r"unrecognized arguments: (\S+)")
_INVALID_CHOICE = re.compile(r"argument (.+?): invalid choice: '(.*?)' \(choose from (.*)\)")


class CommandParser(argparse.ArgumentParser):
    """An argument parser that raises :class:`UsageError` instead of printing its usage and leaving.

    Attributes:
        delegate: Given the words, makes the parser that parses them in place of this one; None where it does itself.
    """

    delegate: Callable[[Sequence[str]], CommandParser] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses the words, or lets the delegate do it, with the defaults of this parser beside its own."""
        if self.delegate is None:
            return super().parse_known_args(args, namespace)
        other = self.delegate(args)
        other.set_defaults(**{**self._defaults, **other._defaults})
        return other.parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raises the error with the nearest valid flag or choice."""
        unrecognized = _UNRECOGNIZED.match(message)
        invalid = _INVALID_CHOICE.match(message)
        if unrecognized:
            word = unrecognized.group(1)
            flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
            near = difflib.get_close_matches(word, flags, n=1, cutoff=0.5) if word.startswith("-") else []
            hint = f"did you mean {near[0]}?" if near else f"'{self.prog} --help' lists the flags"
            message = f"unknown argument {word}; {hint}"
        elif invalid:
            flag, word, choices = invalid.groups()
            names = [choice.strip(" '") for choice in choices.split(",")]
            near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
            message = f"{flag}: unknown {word!r}; {hint}"
        else:
            message = message.removeprefix("argument ")
        raise UsageError(message)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or isinstance(action.default, list) or action.nargs == 0
        return action.help if silent else super()._get_help_string(action)


def at_least(lowest: int) -> Callable[[str], int]:
    """A parser of whole numbers with a lower bound."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if number < lowest:
            raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least {lowest}")
        return number

    return parse


def seconds(text: str) -> float:
    """A parser of a duration."""
    return _above_nothing(text, "seconds")


def gibibytes(text: str) -> int:
    """A parser of a number of GiB, to bytes."""
    return int(_above_nothing(text, "GiB") * 2**30)


def _above_nothing(text: str, unit: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of {unit} above 0")
    return number


def device(text: str) -> str:
    """Checks the form of a device's name; whether it is there is seen later, since that takes torch."""
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", text) is None:
        raise argparse.ArgumentTypeError(f"{text}: must be auto, cpu or cuda:N")
    return text


def folder(text: str) -> Path:
    """A folder that need not be there; an empty name, as of a variable that is not set, is none."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must be the name of a folder, and is empty")
    return Path(text)


def existing_folder(text: str) -> Path:
    """A folder that must be there."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return path
