"""Long commands that are interrupted say what is kept and how to go on. Imports neither torch nor rich."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn, TextIO

from advbench.process.stdout import stdout_to_stderr

__all__ = ["resumable"]


def resumable(options: argparse.Namespace, body: Callable[[TextIO], int]) -> int:
    """Runs a command's body; whenever it is interrupted, says how to go on.

    Args:
        options: What was typed.
        body: Does the work and returns the exit code. It is given the real stdout, for tables; whatever
            components print goes to stderr.

    Returns:
        The body's exit code, or 130.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with stdout_to_stderr() as stdout:
            return body(stdout)
    except KeyboardInterrupt as interruption:
        kept = str(interruption) or "nothing was lost"
        command = _resuming_command(options.words)
        print(f"advbench {options.command}: interrupted; {kept}. Go on with: {command}", file=sys.stderr)
        return 130


def _resuming_command(words: Sequence[str]) -> str:
    """The command as it was typed, but for ``--rerun all``, which would begin anew what is done."""
    kept = list(words)
    if "--rerun=all" in kept:
        kept.remove("--rerun=all")
    for place in range(len(kept) - 1):
        if kept[place : place + 2] == ["--rerun", "all"]:
            del kept[place : place + 2]
            break
    return shlex.join(["advbench", *kept])


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """What asks the process to end counts as Ctrl-C."""
    del number, frame
    raise KeyboardInterrupt
