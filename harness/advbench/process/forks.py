"""Child processes that a component forks: a child ends when it returns from the component, or with this process."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any

__all__ = ["exit_if_forked_child", "fork_count"]

_LIBRARIES = frozenset({"multiprocessing", "subprocess", "pty", "concurrent", "multiprocess", "joblib", "billiard"})
"""Packages that end the children which they fork."""

_PR_SET_PDEATHSIG = 1

_count = 0
_is_child = False


def fork_count() -> int:
    """How often components have forked this process, other than through libraries that end their children."""
    return _count


def exit_if_forked_child() -> None:
    """Ends the process if it is such a child, without clean-up, which its parent does."""
    if _is_child:
        os._exit(1)


def _caller() -> tuple[bool, FrameType | None]:
    """Whether a library forks, which ends its child, and the innermost active call of a function of advbench.

    Only calls below that function count, since advbench itself may run in a worker of such a library.
    """
    frame: FrameType | None = sys._getframe(2)
    by_library = False
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package == "advbench":
            break
        by_library = by_library or package in _LIBRARIES
        frame = frame.f_back
    return by_library, frame


def _end_with_parent() -> None:
    """Makes Linux end this process when its parent ends. Otherwise it would keep pipes of a finished command open."""
    if sys.platform == "linux":
        with contextlib.suppress(Exception):
            import ctypes

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _in_parent() -> None:
    global _count  # noqa: PLW0603  a count for the whole process
    by_library, advbench_frame = _caller()
    if advbench_frame is not None and not by_library:
        _count += 1


def _in_child() -> None:
    global _is_child  # noqa: PLW0603
    by_library, advbench_frame = _caller()
    if advbench_frame is None:
        return
    _end_with_parent()
    if by_library:
        return
    _is_child = True

    def exit_on_return(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_back is advbench_frame:
            os._exit(1)

    sys.setprofile(exit_on_return)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_in_parent, after_in_child=_in_child)
