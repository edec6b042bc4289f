"""How reports and findings name a class."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["class_label"]


def class_label(number: int, names: Sequence[str]) -> str:
    """The number of a class, followed by its name in parentheses if it has one.

    Args:
        number: The class, from 0.
        names: The names of the classes; empty if they have none.
    """
    name = names[number] if number < len(names) else ""
    return f"{number} ({name})" if name else str(number)
