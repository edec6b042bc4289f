"""Text in the page."""

from __future__ import annotations

import re
from html import escape

__all__ = ["breakable"]


def breakable(text: str) -> str:
    """Escapes text for HTML and lets lines break after the separators of a spec, so that no word is split."""
    return re.sub(r"[:,+]", r"\g<0><wbr>", escape(text))
