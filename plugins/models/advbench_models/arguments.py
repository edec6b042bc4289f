"""Parses parameters of models of the user's own: ``args=depth=3;width=16``, the arguments of a function, and shapes."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

from advbench.api import ParameterError

__all__ = ["parse_arguments", "parse_shape", "signature_mismatch"]

_NAMED = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)
_FRACTION = re.compile(r"(-?\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)")
_SHAPE = re.compile(r"(\d+)x(\d+)x(\d+)")
_WORDS = {"none": None, "true": True, "false": False}


def parse_arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Parses ``3;0.5;depth=3;name=small`` into positional and keyword arguments.

    A value is a Python literal (a number, a quoted string, a list, ...), ``true``, ``false``, ``none``, a fraction such
    as ``8/255``, or else the text itself.

    Returns:
        The positional and the keyword arguments.

    Raises:
        ParameterError: A part is empty, a name is given twice, or a positional value follows a named one.
    """
    positional: list[Any] = []
    keyword: dict[str, Any] = {}
    for part in _parts(text):
        match = _NAMED.fullmatch(part)
        name, value = (match[1], match[2].strip()) if match else ("", part.strip())
        if not value:
            raise ParameterError(f"args={text}: {part.strip() or 'a part'!r} has no value; write args=depth=3;width=16")
        if name in keyword:
            raise ParameterError(f"args={text}: {name} is given twice")
        if name:
            keyword[name] = _value(value)
        elif keyword:
            raise ParameterError(f"args={text}: {value!r} has no name but follows one that has; put it first")
        else:
            positional.append(_value(value))
    return positional, keyword


def parse_shape(text: str | None) -> tuple[int, int, int] | None:
    """Parses the shape of an image, such as ``3x32x32``; None for no text.

    Raises:
        ParameterError: The text has another form.
    """
    if text is None:
        return None
    match = _SHAPE.fullmatch(text)
    if not match:
        raise ParameterError(f"shape={text}: must be channels x height x width, as in 3x32x32")
    return int(match[1]), int(match[2]), int(match[3])


def signature_mismatch(function: Callable[..., Any], positional: list[Any], keyword: dict[str, Any]) -> str:
    """Returns why a function does not accept these arguments, or "" if it does or its signature is unknown."""
    try:
        inspect.signature(function).bind(*positional, **keyword)
    except TypeError as error:
        return str(error)
    except ValueError:  # no signature available
        return ""
    return ""


def _parts(text: str) -> list[str]:
    """Splits the text at semicolons outside of quotes."""
    parts, quote, index = [""], "", 0
    while index < len(text):
        character = text[index]
        if quote and character == "\\":
            parts[-1] += text[index : index + 2]
            index += 2
            continue
        if character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        if character == ";" and not quote:
            parts.append("")
        else:
            parts[-1] += character
        index += 1
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
