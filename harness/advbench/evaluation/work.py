"""Runs one task: a worker loads plugins itself and writes to the store."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable

from advbench.discovery import threads_watched
from advbench.errors import ContractError, StoreError, describe
from advbench.evaluation.craft import craft
from advbench.evaluation.environment import Environment, Workspace, workspace
from advbench.evaluation.keys import Base
from advbench.evaluation.score import predict_clean, score
from advbench.evaluation.tasks import CleanTask, CraftTask, Outcome, Task

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
        return Outcome(time.perf_counter() - began, describe(error), traceback.format_exc())
    return Outcome(time.perf_counter() - began)


def _run(environment: Environment, task: Task) -> None:
    place = workspace(environment)
    place.thread_errors.clear()
    with threads_watched(place.thread_errors.append):
        if isinstance(task, CraftTask):
            _check_material(place, task)
            craft(place, task, _progress)
        elif isinstance(task, CleanTask):
            _check_material(place, task)
            predict_clean(place, task, _progress)
        else:
            score(place, task, _progress)


def _check_material(place: Workspace, task: CraftTask | CleanTask) -> None:
    """Makes sure that what this process has loaded is what the key says, should files have changed since the start.

    Raises:
        ContractError: Code, weights or data are others than when the run began.
    """
    place.images(task.dataset)
    place.network(task.model)
    dataset, model = place.dataset(task.dataset), place.model(task.model)
    base = Base.of(dataset, place.dataset_digest(task.dataset), model, task.seed, place.environment.device)
    if isinstance(task, CraftTask):
        seen = place.chain(task.defense) if task.defense else None
        attack = place.attack(task.attack)
        material = base.adversarial(task.ids, attack, task.threat, seen, task.draws, precision=task.precision)
    else:
        material = base.clean(task.ids, place.chain(task.defense), task.draws)
    if material != task.material:
        changed = [key for key in material if material[key] != task.material.get(key)]
        raise ContractError(f"{', '.join(changed)} changed on disk while the run was under way; run the command again")
