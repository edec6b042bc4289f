"""One setting of the process: how it is read, compared and put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Setting", "always", "never", "nothing_told", "value_told"]


def value_told(_before: Any, now: Any) -> str:
    """A change by the new value."""
    return f"to {now}"


def nothing_told(_before: Any, _now: Any) -> str:
    """A change whose setting says it all."""
    return ""


def always(_before: Any, _now: Any) -> bool:
    """Of a setting any change of which matters."""
    return True


def never(_before: Any, _now: Any) -> bool:
    """Of a setting that is put back, and no more."""
    return False


class Setting(NamedTuple):
    """A setting of the process.

    Attributes:
        name: What messages call it.
        read: Gives its value.
        write: Makes it that value; None where nothing can.
        told: The change in words, from the value before and the one now; empty where the name says all.
        matters: Whether such a change may shape what others compute, though it is put back.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object] | None = None
    told: Callable[[Any, Any], str] = value_told
    matters: Callable[[Any, Any], bool] = always
