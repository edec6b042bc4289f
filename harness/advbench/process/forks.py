"""Processes that a component forks off this one: where such a child comes back from the component, it ends."""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any

__all__ = ["end_if_forked", "forks"]

_LIBRARIES = frozenset({"multiprocessing", "subprocess", "pty", "concurrent", "multiprocess", "joblib", "billiard"})
"""Packages whose children run what they are given and end."""

_count = 0
_is_child = False


def forks() -> int:
    """How often this process has been forked by other than libraries that see to their children."""
    return _count


def end_if_forked() -> None:
    """Ends the process where it is such a child; without any clean-up, which is its parent's."""
    if _is_child:
        os._exit(1)


def _caller() -> tuple[bool, FrameType | None]:
    """Whether a library forks, which sees to its child; and the innermost call under way of a function of advbench's.

    Only what the component has called counts: advbench itself may run in a worker of such a library.
    """
    frame: FrameType | None = sys._getframe(2)
    by_a_library = False
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package == "advbench":
            break
        by_a_library = by_a_library or package in _LIBRARIES
        frame = frame.f_back
    return by_a_library, frame


def _in_parent() -> None:
    global _count  # noqa: PLW0603  it is a matter of the process
    by_a_library, ours = _caller()
    if ours is not None and not by_a_library:
        _count += 1


def _in_child() -> None:
    global _is_child  # noqa: PLW0603
    by_a_library, ours = _caller()
    if ours is None or by_a_library:
        return
    _is_child = True

    def leave(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_back is ours:
            os._exit(1)

    sys.setprofile(leave)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_in_parent, after_in_child=_in_child)
