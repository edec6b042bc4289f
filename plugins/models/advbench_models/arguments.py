"""Arguments of the user's own functions, in one parameter: ``args=depth=3;width=16``."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

from advbench.api import ParameterError

__all__ = ["argument_mismatch", "parse_arguments"]

_NAMED = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)
_FRACTION = re.compile(r"(-?\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)")
_WORDS = {"none": None, "true": True, "false": False}


def parse_arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Reads ``3;0.5;depth=3;name=small``: values by their places, then by their names.

    A value is a Python literal (a number, text in quotes, a list, ...), ``true``, ``false``, ``none``, a fraction such
    as ``8/255``, or else the text itself.

    Raises:
        ParameterError: A part is empty, a name is given twice, or a value without a name follows one with a name.
    """
    placed: list[Any] = []
    named: dict[str, Any] = {}
    for part in _parts(text):
        found = _NAMED.fullmatch(part)
        name, value = (found[1], found[2].strip()) if found else ("", part.strip())
        if not value:
            raise ParameterError(f"args={text}: {part.strip() or 'a part'!r} has no value; write args=depth=3;width=16")
        if name in named:
            raise ParameterError(f"args={text}: {name} is given twice")
        if name:
            named[name] = _value(value)
        elif named:
            raise ParameterError(f"args={text}: {value!r} has no name but follows one that has; put it first")
        else:
            placed.append(_value(value))
    return placed, named


def argument_mismatch(made: Callable[..., Any], placed: list[Any], named: dict[str, Any]) -> str:
    """Why a callable does not take these arguments, or nothing; nothing, too, where Python does not know."""
    try:
        inspect.signature(made).bind(*placed, **named)
    except TypeError as error:
        return str(error)
    except ValueError:  # it has no signature
        return ""
    return ""


def _parts(text: str) -> list[str]:
    """The text between semicolons that are in no quotes."""
    parts, quote, at = [""], "", 0
    while at < len(text):
        character = text[at]
        if quote and character == "\\":
            parts[-1] += text[at : at + 2]
            at += 2
            continue
        if character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        if character == ";" and not quote:
            parts.append("")
        else:
            parts[-1] += character
        at += 1
    return parts


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    fraction = _FRACTION.fullmatch(text)
    if fraction and float(fraction[2]):
        return float(fraction[1]) / float(fraction[2])
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text
