"""Runs one task: a worker loads plugins itself and writes to the store."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from advbench.api import Defense, Model, process_taint
from advbench.api.executor import taint_process
from advbench.errors import ContractError, ProcessChangedError, StoreError, describe
from advbench.evaluation.plan.keys import KeyContext
from advbench.evaluation.plan.tasks import CleanTask, CraftTask, JoinTask, Outcome, ScoreTask, Task
from advbench.evaluation.work.behaviour.ask import confirm
from advbench.evaluation.work.behaviour.blame import culprit_of
from advbench.evaluation.work.craft import craft, join
from advbench.evaluation.work.score import predict_clean, score
from advbench.evaluation.work.workspace import Environment, Workspace, workspace
from advbench.process.exits import exits_refused
from advbench.process.memory import free_memory, is_shortage
from advbench.process.state import is_interruption, process_kept
from advbench.process.stdout import stdout_kept
from advbench.process.threads import threads_watched
from advbench.store import digest_of

__all__ = ["RETRIES", "execute", "given_time", "note_of", "set_progress", "too_long"]

RETRIES = 2
"""How often a task is given to another worker when its worker dies."""

_progress: Callable[[int], None] = lambda _done: None  # noqa: E731

_one_at_a_time = threading.Lock()
"""Workers of a cluster may have several threads; what components print, raise and load is the whole process's."""


def set_progress(callback: Callable[[int], None]) -> None:
    """Lets tasks that run in this process tell how many samples they have done."""
    global _progress  # noqa: PLW0603  a task is plain data and cannot carry a callback to a worker
    _progress = callback


def execute(environment: Environment, task: Task, *, again: bool = False) -> Outcome:
    """Runs one task in this process, unless its result is in the store, or another run is at it.

    What a component raises, SystemExit included, is the outcome; an interruption and a store that
    cannot be written are raised. A component that has changed the process for all others is named, what the task came
    to is not kept, and the process does nothing more. Where memory does not suffice, the task is begun again with half
    as many images at once, and so on down to one.

    Args:
        environment: Where it runs.
        task: What to do.
        again: Whether it is to be done although its result is there.
    """
    began = time.perf_counter()
    with _one_at_a_time:
        if process_taint():  # the executor has not taken another process in its place yet
            return Outcome(0.0, busy=True)
        try:
            # What a component prints must not mix with the tables on stdout.
            with stdout_kept(), exits_refused():
                place = workspace(environment)  # which a fresh worker has to load, and takes no time of the task's
                if process_taint():
                    return Outcome(0.0, process_taint())
                if environment.timeout is None:
                    return _claimed(place, task, again)
                return _limited(place, environment.timeout, task, again)
        except StoreError:
            raise
        except BaseException as error:
            if is_interruption(error):
                raise
            seconds, trace = time.perf_counter() - began, traceback.format_exc()
            if isinstance(error, _BlamedError):
                return Outcome(seconds, f"ContractError: {error}", trace, culprit=error.culprit)
            return Outcome(seconds, describe(error), trace)


def _limited(place: Workspace, seconds: float, task: Task, again: bool) -> Outcome:
    """Runs a task for no longer than this, unless it has ended as many workers as it may.

    Where the pool itself gives a task whose worker died to others, these see what the driver would.
    """
    note_name = note_of(place.environment, task)
    ended = place.store.ended_at(note_name)
    try:
        if any(ended):
            return Outcome(0.0, too_long(seconds))
        if len(ended) > RETRIES:
            return Outcome(0.0, f"its worker process died {len(ended)} times")
        with place.store.timeout_marker(note_name) as note, given_time(seconds, note):
            return _claimed(place, task, again)
    finally:
        if ended:
            place.store.forget_ended(note_name)


def _claimed(place: Workspace, task: Task, again: bool) -> Outcome:
    began = time.perf_counter()
    with place.store.claim(_claim_on(task)) as mine:
        if not mine:
            return Outcome(0.0, busy=True)
        if not again and _is_done(place, task):
            if isinstance(task, JoinTask):  # by a run with other parts, which are of no use now
                place.store.remove_parts(digest_of(task.key_inputs))
            return Outcome(0.0)
        size = _with_room(place, task)
    fewer = size if size < place.environment.batch_size else None
    return Outcome(time.perf_counter() - began, batch_size=fewer)


def note_of(environment: Environment, task: Task) -> str:
    """The name of a task's note of time, the same in all processes that give it as long."""
    return digest_of([type(task).__name__, _claim_on(task), environment.timeout])[:24]


def too_long(seconds: float) -> str:
    """What became of a task that was not done in time."""
    return f"it took longer than the {seconds:g} s of --cell-timeout"


def _claim_on(task: Task) -> str:
    """What is claimed: an entry, or a part of one."""
    part = task.part if isinstance(task, CraftTask) else None
    return f"{digest_of(task.key_inputs)}{part or ''}"


def _is_done(place: Workspace, task: Task) -> bool:
    """Whether another run has done it since this one looked."""
    key = digest_of(task.key_inputs)
    if isinstance(task, CraftTask):
        if task.part is not None and place.store.read_tensors(key, task.part) is not None:
            return True
        return place.store.read_tensors(key) is not None
    if isinstance(task, JoinTask):
        return place.store.read_tensors(key) is not None
    record = place.store.read_record("cells" if isinstance(task, ScoreTask) else "clean", key, arrays=True)
    return record is not None and record.get("status", "ok") == "ok"


def _with_room(place: Workspace, task: Task) -> int:
    """Runs the task with as many images at once as memory allows, and returns how many."""
    samples, wanted = _samples(task), place.environment.batch_size
    size = min(samples, wanted)
    try:
        while True:
            place.batch_size = size
            short = _attempt(place, task)
            if short is None:
                return wanted if size == samples else size
            if size == 1:
                raise MemoryError(f"out of memory, even with one image at once: {short}")
            size = max(1, size // 2)
            free_memory()
    finally:
        place.batch_size = place.environment.batch_size


def _samples(task: Task) -> int:
    if isinstance(task, CraftTask):
        return len(task.places)
    if isinstance(task, JoinTask):
        return 1
    return len(task.ids) if isinstance(task, CleanTask) else sum(len(ids) for _, ids in task.chunks)


def _attempt(place: Workspace, task: Task) -> str | None:
    """Runs the task; in words what it raised where memory did not suffice, so that all else of it is freed."""
    try:
        _run(place, task)
    except Exception as error:
        if not is_shortage(error):
            raise
        return describe(error)
    return None


class _BlamedError(ContractError):
    """A component has changed the process, and it is known which: its axis and its spec."""

    def __init__(self, told: str, culprit: tuple[str, str]) -> None:
        super().__init__(told)
        self.culprit = culprit


def _run(place: Workspace, task: Task) -> None:
    place.thread_errors.clear()
    seed = 0 if isinstance(task, JoinTask) else task.seed
    with process_kept(seed) as place.process, threads_watched(place.thread_errors.append):
        try:
            _do(place, task)
        except BaseException as error:
            if is_interruption(error):
                raise
            changed = error.changed if isinstance(error, ProcessChangedError) else tuple(place.process.put_back())
            place.forget_changed_networks()
            if not changed:
                raise
            raise _blamed(place, task, changed, error) from error


def _blamed(place: Workspace, task: Task, changed: Sequence[str], error: BaseException) -> _BlamedError:
    """Says of a changed process who changed it, and lets nothing more be done in it."""
    culprit = culprit_of(place, task)
    told = f"{culprit.label} changed {' and '.join(changed)} for the whole process"
    taint_process(told)
    if not isinstance(error, ProcessChangedError):
        told += f", and then {describe(error)}"
    return _BlamedError(told, (culprit.axis, culprit.spec))


def _do(place: Workspace, task: Task) -> None:
    if isinstance(task, CraftTask):
        _check_material(place, task)
        craft(place, task, _progress)
    elif isinstance(task, JoinTask):
        join(place, task)
    elif isinstance(task, CleanTask):
        _check_material(place, task)
        predict_clean(place, task, _progress)
    else:
        _check_scored(place, task)
        score(place, task, _progress)


@contextlib.contextmanager
def given_time(seconds: float | None, note: IO[str] | None = None) -> Iterator[None]:
    """Ends this process, a worker, when the block takes longer: nothing else ends what hangs outside Python.

    Args:
        seconds: How long it may take; None for any time.
        note: A file that is written to before the process ends, or None.
    """
    if seconds is None:
        yield
        return
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=note or nowhere)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()


def _check_material(place: Workspace, task: CraftTask | CleanTask) -> None:
    """Makes sure that what this process has loaded is what the key says, should files have changed since the start.

    Raises:
        ContractError: Code, weights or data are others than when the run began, or a network answers otherwise.
    """
    place.images(task.dataset)
    place.network(task.model)
    dataset, model = place.dataset(task.dataset), place.model(task.model)
    base = KeyContext.of(dataset, place.dataset_digest(task.dataset), model, task.seed, place.environment.device)
    answers = task.key_inputs["model"].get("answers", "")
    asked: list[tuple[Model | Defense, dict[str, Any], str]] = [(model, base.model, answers)]
    chain = place.chain(task.defense) if task.defense else None
    if chain is not None:
        for part, told in zip(chain.parts, task.key_inputs["defense"] or (), strict=False):
            asked.append((part, {name: told[name] for name in told if name != "answers"}, told.get("answers", "")))
    for component, _, behaviour in asked:
        base = base.told(component, behaviour)
    if isinstance(task, CraftTask):
        attack = place.attack(task.attack)
        base = base.told(attack, task.key_inputs["attack"].get("answers", ""))
        key_inputs = base.adversarial(task.ids, attack, task.threat, chain, task.draws, precision=task.precision)
    else:
        assert chain is not None
        key_inputs = base.clean(task.ids, chain, task.draws)
    if key_inputs != task.key_inputs:
        changed = [key for key in key_inputs if key_inputs[key] != task.key_inputs.get(key)]
        raise ContractError(
            f"{', '.join(changed)} changed on disk while the run was under way; run the command again (or "
            "it tells another digest each time, which 'advbench check' finds)"
        )
    for component, identity, behaviour in asked:
        confirm(place, component, identity, base.dataset, told=behaviour, spec=task.dataset)


def _check_scored(place: Workspace, task: ScoreTask) -> None:
    """The same for a cell, whose predictions on clean images another process may have made.

    Raises:
        ContractError: Code, weights or data are others than when the run began, or a network answers otherwise.
    """
    key_inputs = place.store.read_key_inputs("clean", task.clean)
    if key_inputs is None:
        return  # which scoring tells
    known = _scored.setdefault(place, set())
    if task.clean in known:
        return
    ids, specs = tuple(one for _, ids in task.chunks for one in ids), task.specs
    _check_material(
        place, CleanTask(key_inputs, ids, specs["dataset"], specs["model"], specs["defense"], task.seed, task.draws)
    )
    known.add(task.clean)


_scored: weakref.WeakKeyDictionary[Workspace, set[str]] = weakref.WeakKeyDictionary()
