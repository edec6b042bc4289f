"""Long commands that are interrupted report what is stored and how to resume. Imports neither torch nor rich."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn, TextIO

from advbench.printable import one_line
from advbench.process.stdout import stdout_to_stderr

__all__ = ["resumable"]


def resumable(options: argparse.Namespace, body: Callable[[TextIO], int]) -> int:
    """Runs the body of a command; if it is interrupted, reports how to resume.

    Args:
        options: The parsed flags.
        body: Does the work and returns the exit code. Its argument is the real stdout, for tables; what components
            print goes to stderr.

    Returns:
        The body's exit code, or 130.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with stdout_to_stderr() as stdout:
            return body(stdout)
    except KeyboardInterrupt as interruption:
        stored = str(interruption) or "no result is lost"
        command = _resuming_command(options.words)
        print(one_line(f"advbench {options.command}: interrupted; {stored}. Resume with: {command}"), file=sys.stderr)
        return 130


def _resuming_command(words: Sequence[str]) -> str:
    """The command as it was typed, without ``--rerun all``, which would repeat finished cells."""
    kept = list(words)
    if "--rerun=all" in kept:
        kept.remove("--rerun=all")
    for index in range(len(kept) - 1):
        if kept[index : index + 2] == ["--rerun", "all"]:
            del kept[index : index + 2]
            break
    return shlex.join(["advbench", *kept])


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Handles SIGTERM like Ctrl-C."""
    del number, frame
    raise KeyboardInterrupt
