"""Text in the page: HTML without special characters, and without characters that do not print."""

from __future__ import annotations

import html
from typing import Any

from advbench.printable import printable

__all__ = ["escape", "printable_data"]


def escape(text: str) -> str:
    """Text for the content of an element or the value of an attribute."""
    return html.escape(printable(text))


def printable_data(value: Any) -> Any:
    """The same JSON data with escapes in place of the characters of its texts and keys that do not print."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): printable_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [printable_data(item) for item in value]
    return value
