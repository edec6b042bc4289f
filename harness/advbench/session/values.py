"""Parsers and checks of values that come from flags or Python arguments. Imports neither torch nor rich."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from advbench.errors import listed, nearest

__all__ = [
    "at_least",
    "device",
    "existing_folder",
    "folder",
    "gibibytes",
    "one_of",
    "radius",
    "run_name",
    "seconds",
    "unknown_choice",
]


_LEAST_GIBIBYTES = 0.01
"""With less memory, not even the smallest task could report that it ran out of it."""

_LONGEST_NAME = 100
"""Length limit of a run's name, in characters."""


def at_least(lowest: int) -> Callable[[str], int]:
    """A parser of whole numbers with a lower bound."""

    def parse(text: str) -> int:
        # int() would also read 1_0 and digits of other scripts, and refuses more than 4,300 digits.
        plain = re.fullmatch(r"\s*[-+]?[0-9]{1,300}\s*", text)
        number = int(text) if plain else lowest - 1
        if number < lowest:
            raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least {lowest}")
        return number

    return parse


def seconds(text: str) -> float:
    """Parses a duration."""
    return _positive(text, "seconds")


def gibibytes(text: str) -> int:
    """Parses a number of GiB and returns it in bytes."""
    number = _positive(text, "GiB")
    if number < _LEAST_GIBIBYTES:
        raise argparse.ArgumentTypeError(f"{text}: must be at least {_LEAST_GIBIBYTES} GiB")
    return int(number * 2**30)


def radius(text: str) -> float:
    """Parses a radius, such as ``0.5`` or ``8/255``."""
    numerator, slash, denominator = text.partition("/")
    try:
        plain = text.isascii() and "_" not in text
        number = float(numerator) / (float(denominator) if slash else 1.0) if plain else -1.0
    except (ValueError, ZeroDivisionError):
        number = -1.0
    if not 0 <= number < 1e9:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of at least 0, such as 0.5 or 8/255")
    return number


def _positive(text: str, unit: str) -> float:
    try:
        number = float(text) if text.isascii() and "_" not in text else 0.0
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of {unit} above 0")
    return number


def device(text: str) -> str:
    """Checks the form of a device name. Whether the device exists is checked later, since that needs torch."""
    if re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,9})?|mps", text) is None:
        raise argparse.ArgumentTypeError(f"{text}: must be auto, cpu, cuda, cuda:N or mps")
    return text


def folder(text: str) -> Path:
    """Parses the path of a folder that need not exist. An empty path, as from an unset variable, is an error."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must be the name of a folder, and is empty")
    return Path(text)


def existing_folder(text: str) -> Path:
    """Parses the path of a folder that must exist."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return path


def run_name(text: str) -> str:
    """Checks the name of a run: one line of printable characters, and not ``latest`` or ``latest~N``."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must be a name, and is empty")
    if not text.isprintable() or len(text) > _LONGEST_NAME:
        shown = ascii(text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…")
        raise argparse.ArgumentTypeError(f"{shown}: must be one line of at most {_LONGEST_NAME} printable characters")
    if re.fullmatch(r"latest(~.*)?", text.strip()):
        raise argparse.ArgumentTypeError(
            f"{text.strip()}: 'latest' and 'latest~N' mean the last runs; choose another name"
        )
    return text.strip()


def one_of(choices: Sequence[str]) -> Callable[[str], str]:
    """A parser that accepts some words only."""

    def parse(text: str) -> str:
        if text not in choices:
            raise argparse.ArgumentTypeError(unknown_choice(text, choices))
        return text

    return parse


def unknown_choice(word: str, choices: Sequence[str]) -> str:
    """The message for a word that is none of the choices."""
    near = nearest(word, choices)
    hint = f"did you mean {near!r}?" if near else f"there are: {listed(choices)}"
    return f"unknown {word!r}; {hint}"
