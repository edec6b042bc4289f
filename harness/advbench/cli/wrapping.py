"""Messages for people in a terminal are wrapped between words."""

from __future__ import annotations

import os
import sys
import textwrap

__all__ = ["wrapped"]


def wrapped(line: str) -> str:
    """A line for stderr: wrapped between words in a terminal; in a file or a pipe it stays one line."""
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):  # no terminal, or a stream without a file
        return line
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) if width > 0 else line
