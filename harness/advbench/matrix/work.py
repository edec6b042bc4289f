"""Runs one task: a worker loads plugins itself and writes to the store."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable

from advbench.errors import StoreError
from advbench.matrix.craft import craft
from advbench.matrix.environment import Environment, workspace
from advbench.matrix.score import predict_clean, score
from advbench.matrix.tasks import CleanTask, CraftTask, Outcome, Task

__all__ = ["execute", "set_progress"]

_progress: Callable[[int], None] = lambda _done: None  # noqa: E731


def set_progress(callback: Callable[[int], None]) -> None:
    """Lets tasks that run in this process tell how many samples they have done."""
    global _progress  # noqa: PLW0603  a task is plain data and cannot carry a callback to a worker
    _progress = callback


def execute(environment: Environment, task: Task) -> Outcome:
    """Runs one task in this process.

    What a component raises, SystemExit included, is the outcome; an interruption and a store that
    cannot be written are raised.
    """
    began = time.perf_counter()
    try:
        # What a component prints must not mix with the tables on stdout.
        with contextlib.redirect_stdout(sys.stderr):
            _run(environment, task)
    except (KeyboardInterrupt, StoreError):
        raise
    except BaseException as error:
        text = " ".join(str(error).split())
        message = f"{type(error).__name__}: {text}" if text else type(error).__name__
        return Outcome(time.perf_counter() - began, message, traceback.format_exc())
    return Outcome(time.perf_counter() - began)


def _run(environment: Environment, task: Task) -> None:
    place = workspace(environment)
    if isinstance(task, CraftTask):
        craft(place, task, _progress)
    elif isinstance(task, CleanTask):
        predict_clean(place, task, _progress)
    else:
        score(place, task, _progress)
