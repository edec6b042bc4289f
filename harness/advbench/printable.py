r"""Text from plugins, files and users made safe to show: characters that do not print become escapes such as ``\x1b``.

Every format of output uses these functions and then escapes its own special characters. Control characters would move
the cursor of a terminal, and bidirectional marks would show a name in another order than it has.
This module imports only the standard library.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["json_text", "one_line", "printable"]


def printable(text: str, keep: str = "") -> str:
    r"""Text with an escape of Python (``\x1b``, ``\u202e``) in place of each character that does not print.

    These are control and format characters, including bidirectional marks, all white space but blanks, lone surrogates
    and unassigned code points (:meth:`str.isprintable`).

    Args:
        text: Any text.
        keep: Characters that stay although they do not print, such as line breaks.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else _escaped(character) for character in text
    )


def one_line(text: str) -> str:
    """Text on one line: each run of white space becomes a blank; then the same as :func:`printable`."""
    return printable(" ".join(text.split()))


def json_text(value: Any, *, indent: int | None = None, separators: tuple[str, str] | None = None) -> str:
    r"""A value as JSON in which each character that does not print is written as ``\uXXXX``.

    It parses to the same value.

    Raises:
        ValueError: The value contains NaN or an infinity.
    """
    text = json.dumps(value, indent=indent, separators=separators, allow_nan=False, ensure_ascii=False)
    if text.isprintable():
        return text
    # Outside of strings, JSON contains no other characters that do not print than the line breaks of an indent.
    return "".join(
        character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1] for character in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
