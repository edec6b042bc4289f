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


def _caller(packages: frozenset[str]) -> FrameType | None:
    """The innermost call under way of a function in one of these packages."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] not in packages:
        frame = frame.f_back
    return frame


def _in_parent() -> None:
    global _count  # noqa: PLW0603  it is a matter of the process
    if _caller(_LIBRARIES) is None:
        _count += 1


def _in_child() -> None:
    global _is_child  # noqa: PLW0603
    if _caller(_LIBRARIES) is not None:
        return
    _is_child = True
    ours = _caller(frozenset({"advbench"}))

    def leave(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_back is ours:
            os._exit(1)

    if ours is not None:
        sys.setprofile(leave)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_in_parent, after_in_child=_in_child)
