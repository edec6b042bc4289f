"""One setting of the process: how it is read, compared and restored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Setting", "always_matters", "describe_nothing", "describe_value", "never_matters"]


def describe_value(_before: Any, now: Any) -> str:
    """Describes a change by the new value."""
    return f"to {now}"


def describe_nothing(_before: Any, _now: Any) -> str:
    """Adds nothing to the name of the setting."""
    return ""


def always_matters(_before: Any, _now: Any) -> bool:
    """Any change of the setting is an error."""
    return True


def never_matters(_before: Any, _now: Any) -> bool:
    """Changes of the setting are restored, but are no error."""
    return False


class Setting(NamedTuple):
    """A setting of the process.

    Attributes:
        name: What messages call it.
        read: Returns its value.
        write: Sets it; None if that is impossible.
        describe: Describes a change, given the old and the new value; empty if the name is enough.
        matters: Whether a change, given the old and the new value, may affect results although it is restored.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object] | None = None
    describe: Callable[[Any, Any], str] = describe_value
    matters: Callable[[Any, Any], bool] = always_matters
