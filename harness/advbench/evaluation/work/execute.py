"""Runs one task in a worker, which loads plugins itself and writes results to the store."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from advbench.api import process_taint
from advbench.api.executor import taint_process
from advbench.errors import ContractError, ProcessChangedError, StoreError, describe
from advbench.evaluation.plan.tasks import (
    CertifyTask,
    CleanTask,
    CraftTask,
    DefenseFitTask,
    FitTask,
    JoinTask,
    Outcome,
    ScoreTask,
    Task,
)
from advbench.evaluation.work.attacked.query_limit import NotLimitable
from advbench.evaluation.work.behaviour.culprits import find_culprit
from advbench.evaluation.work.behaviour.verify import verify_key_inputs, verify_scored_inputs
from advbench.evaluation.work.certify import certify
from advbench.evaluation.work.craft import craft, join
from advbench.evaluation.work.fit import fit, fit_defense
from advbench.evaluation.work.memory.batches import batch_memory
from advbench.evaluation.work.score import predict_clean, score
from advbench.evaluation.work.workspace import Environment, Workspace, get_workspace
from advbench.process.exits import exits_refused
from advbench.process.memory import free_memory, is_out_of_memory
from advbench.process.state import is_user_interrupt, isolated_process
from advbench.process.stdout import stdout_to_stderr
from advbench.process.threads import report_thread_errors
from advbench.store import digest_of

__all__ = ["RETRIES", "execute", "set_progress", "time_limit", "timeout_marker_name", "timeout_message"]

RETRIES = 2
"""How often a task is given to another worker when its worker dies."""

_progress: Callable[[int], None] = lambda _done: None  # noqa: E731

_one_at_a_time = threading.Lock()
"""Workers of a cluster may have several threads, but what components print and load affects the whole process."""


def set_progress(callback: Callable[[int], None]) -> None:
    """Sets the function that tasks in this process call with the number of samples that they have done."""
    global _progress  # noqa: PLW0603  a task is plain data and cannot carry a callback to a worker
    _progress = callback


def execute(environment: Environment, task: Task, *, again: bool = False) -> Outcome:
    """Runs one task in this process, unless its result is in the store, or another run is doing it.

    An exception of a component, SystemExit included, becomes the outcome. Ctrl-C and errors of the store are raised. If
    a component changes the process, the outcome names it, nothing is stored, and the process computes nothing more. If
    memory runs out, the task starts again with half the batch size, down to one image.

    Args:
        environment: Where it runs.
        task: What to do.
        again: Whether to do it even if its result is stored.
    """
    began = time.perf_counter()
    with _one_at_a_time:
        if process_taint():  # the executor has not replaced this process yet
            return Outcome(0.0, busy=True)
        try:
            # What a component prints must not mix with the tables on stdout.
            with stdout_to_stderr(), exits_refused():
                workspace = get_workspace(environment)  # loading it does not count towards the task's time limit
                if process_taint():
                    return Outcome(0.0, process_taint())
                if environment.timeout is None:
                    return _run_claimed(workspace, task, again)
                return _run_limited(workspace, environment.timeout, task, again)
        except StoreError:
            raise
        except BaseException as error:
            if is_user_interrupt(error):
                raise
            seconds, trace = time.perf_counter() - began, traceback.format_exc()
            if isinstance(error, NotLimitable):
                assert isinstance(task, CraftTask)
                name = get_workspace(environment).attack(task.attack).name
                reason = f"attack {name!r} cannot have a limit of queries: {error}"
                return Outcome(seconds, reason, skipped=True)
            if isinstance(error, _CulpritError):
                return Outcome(seconds, f"ContractError: {error}", trace, culprit=error.culprit)
            return Outcome(seconds, describe(error), trace)


@dataclasses.dataclass(frozen=True)
class _TaskWorkspace:
    """The operations of tasks in this process; it implements :class:`advbench.evaluation.plan.tasks.TaskWorkspace`."""

    workspace: Workspace

    def fit(self, task: FitTask) -> None:
        verify_key_inputs(self.workspace, task)
        fit(self.workspace, task, _progress)

    def fit_defense(self, task: DefenseFitTask) -> None:
        verify_key_inputs(self.workspace, task)
        fit_defense(self.workspace, task, _progress)

    def craft(self, task: CraftTask) -> None:
        verify_key_inputs(self.workspace, task)
        craft(self.workspace, task, _progress)

    def join(self, task: JoinTask) -> None:
        join(self.workspace, task)

    def predict_clean(self, task: CleanTask) -> None:
        verify_key_inputs(self.workspace, task)
        predict_clean(self.workspace, task, _progress)

    def score(self, task: ScoreTask) -> None:
        verify_scored_inputs(self.workspace, task)
        score(self.workspace, task, _progress)

    def certify(self, task: CertifyTask) -> None:
        verify_key_inputs(self.workspace, task)
        certify(self.workspace, task, _progress)


def _run_limited(workspace: Workspace, seconds: float, task: Task, again: bool) -> Outcome:
    """Runs a task with a time limit, unless it has already ended as many workers as it may.

    A pool may give a task whose worker died to another worker itself. That worker finds here what the driver would.
    """
    name = timeout_marker_name(workspace.environment, task)
    timed_out = workspace.store.ended_attempts(name)
    try:
        if any(timed_out):
            return Outcome(0.0, timeout_message(seconds))
        if len(timed_out) > RETRIES:
            return Outcome(0.0, f"its worker process died {len(timed_out)} times")
        with workspace.store.timeout_marker(name) as marker, time_limit(seconds, marker):
            return _run_claimed(workspace, task, again)
    finally:
        if timed_out:
            workspace.store.forget_attempts(name)


def _run_claimed(workspace: Workspace, task: Task, again: bool) -> Outcome:
    began = time.perf_counter()
    with workspace.store.claim(task.claim) as claimed:
        if not claimed:
            return Outcome(0.0, busy=True)
        if not again and task.is_done(workspace.store):
            if isinstance(task, JoinTask):  # a run with other parts has stored the chunk, so these are not needed
                workspace.store.remove_parts(digest_of(task.key_inputs))
            return Outcome(0.0)
        batch_size = _run_within_memory(workspace, task)
    smaller = batch_size if batch_size < workspace.environment.batch_size else None
    return Outcome(time.perf_counter() - began, batch_size=smaller)


def timeout_marker_name(environment: Environment, task: Task) -> str:
    """The name of a task's timeout marker in the store, the same in all processes with the same time limit."""
    return digest_of([type(task).__name__, task.claim, environment.timeout])[:24]


def timeout_message(seconds: float) -> str:
    """The error of a task that reached its time limit."""
    return f"it took longer than the cell timeout of {seconds:g} s"


def _run_within_memory(workspace: Workspace, task: Task) -> int:
    """Runs the task with the largest batch size that fits into memory.

    Returns:
        The wanted batch size, or a smaller one if memory ran out: not if the size was chosen so that it does not.
    """
    wanted = max(workspace.environment.batch_size, task.group_size or 1)
    size = first = _fitting(workspace, task, min(max(1, task.samples), wanted))
    try:
        while True:
            workspace.batch_size = size
            memory_error = _attempt(workspace, task)
            if memory_error is None:
                return wanted if size == first else size
            if size == 1:
                raise MemoryError(f"out of memory, even with one image at once: {memory_error}")
            size = max(1, size // 2)
            free_memory()
    finally:
        workspace.batch_size = workspace.environment.batch_size


def _fitting(workspace: Workspace, task: Task, size: int) -> int:
    """The batch size, or the largest one that fits into memory if the task's network needs much of it."""
    specs = task.components
    if size == 1 or task.group_size is not None or not specs.keys() >= {"model", "dataset"}:
        return size
    most = batch_memory(workspace, specs["model"], specs["dataset"], task.precision).batch
    return min(size, most) if most else size


def _attempt(workspace: Workspace, task: Task) -> str | None:
    """Runs the task; returns an out-of-memory error as text, so that the exception holds no memory."""
    try:
        _run_isolated(workspace, task)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return describe(error)
    return None


class _CulpritError(ContractError):
    """A known component has changed the process."""

    def __init__(self, message: str, culprit: tuple[str, str]) -> None:
        super().__init__(message)
        self.culprit = culprit


def _run_isolated(workspace: Workspace, task: Task) -> None:
    workspace.thread_errors.clear()
    with isolated_process(task.seed) as workspace.process, report_thread_errors(workspace.thread_errors.append):
        try:
            task.run(_TaskWorkspace(workspace))
        except BaseException as error:
            if is_user_interrupt(error):
                raise
            changes = error.changed if isinstance(error, ProcessChangedError) else tuple(workspace.process.restore())
            workspace.forget_changed_networks()
            if not changes:
                raise
            raise _culprit_error(workspace, task, changes, error) from error


def _culprit_error(workspace: Workspace, task: Task, changes: Sequence[str], error: BaseException) -> _CulpritError:
    """Finds out which component changed the process, and taints the process."""
    culprit = find_culprit(workspace, task)
    message = f"{culprit.label} changed {' and '.join(changes)} for the whole process"
    taint_process(message)
    if not isinstance(error, ProcessChangedError):
        message += f", and then {describe(error)}"
    return _CulpritError(message, (culprit.axis, culprit.spec))


@contextlib.contextmanager
def time_limit(seconds: float | None, marker: IO[str] | None = None) -> Iterator[None]:
    """Ends this worker process if the block takes longer: nothing else ends code that hangs outside Python.

    Args:
        seconds: How long the block may take; None for any time.
        marker: A file that is written to before the process ends, or None.
    """
    if seconds is None:
        yield
        return
    with Path(os.devnull).open("w") as devnull:
        faulthandler.dump_traceback_later(seconds, exit=True, file=marker or devnull)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
