"""Text in the page."""

from __future__ import annotations

import re

__all__ = ["breakable"]


def breakable(escaped: str) -> str:
    """Lets the lines of a text, escaped for HTML, break after the separators of a spec, so that no word is split."""
    return re.sub(r"[:,+]", r"\g<0><wbr>", escaped)
