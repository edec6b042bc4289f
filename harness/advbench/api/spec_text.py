"""Writes components as text that the grammar of specs reads back, see :mod:`advbench.specs.grammar`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from advbench.api.parameters import Value, format_value

__all__ = ["SEPARATOR", "quote", "split_specs", "term_text"]

SEPARATOR = " | "
"""What stands between the specs of several components in one parameter."""

_NEEDS_QUOTES = re.compile(r'[,{}+|"\\]|^\s|\s$|^$')
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[^|"]+|"')


def quote(text: str) -> str:
    """Quotes a text value if necessary, so that parsing gives it back."""
    if not _NEEDS_QUOTES.search(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def term_text(name: str, values: Mapping[str, Value]) -> str:
    """The spec of a component with these values, such as ``pgd:eps=0.3,steps=40``."""
    items = ",".join(
        f"{key}={quote(value) if isinstance(value, str) else format_value(value)}" for key, value in values.items()
    )
    return f"{name}:{items}" if items else name


def split_specs(text: str) -> list[str]:
    """Splits the specs of several components at each ``|`` outside of quotes, without the spaces around them."""
    specs, position = [""], 0
    while position < len(text):
        if text[position] == "|":
            specs.append("")
            position += 1
            continue
        piece = _PIECE.match(text, position)
        assert piece is not None
        specs[-1] += piece.group()
        position = piece.end()
    return [spec.strip() for spec in specs]
