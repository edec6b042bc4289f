"""How long a run will take, measured on this machine before it begins."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import NamedTuple

import torch

from advbench.api import SampleRandom, WorkerLostError, process_taint
from advbench.api.executor import taint_process
from advbench.errors import describe
from advbench.evaluation.plan.tasks import CleanTask, CraftTask, JoinTask, ScoreTask, Task
from advbench.evaluation.run.pool import WorkerPool
from advbench.evaluation.run.schedule import Schedule
from advbench.evaluation.work.execute import given_time
from advbench.evaluation.work.workspace import Environment, Workspace, workspace
from advbench.process.state import ProcessState, calls_watched, is_interruption, process_kept
from advbench.process.threads import threads_watched
from advbench.specs import FLOAT32
from advbench.store import digest_of

__all__ = ["Estimate", "estimate"]

_TRIAL_IMAGES = 32
_ENOUGH = 0.1
"""Seconds of trial after which what was measured has to do: the forecast must not hold up what it forecasts."""

_LONGEST = 10.0
"""Seconds after which a trial of what may hang is given up, where hanging has a limit."""

_ALL_IN = 60.0
"""Seconds after which what has not been tried is left out of the forecast."""

_log = logging.getLogger("advbench.estimate")
_UNKNOWN_PASSES = 200
"""Passes an image assumed for an attack that does not say how many it takes."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        seconds: In all, on one worker.
        of_job: Each job's share, by name.
        rough: Whether an attack does not say how many passes it takes.
        faults: What components have changed for a whole process, by their axis and spec.
    """

    seconds: float
    of_job: dict[str, float]
    rough: bool
    faults: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)


class Measured(NamedTuple):
    """What a trial came to.

    Attributes:
        seconds: Seconds an image; 0 of what fails.
        axis: The axis of a component that has changed the process of the trial for all others; empty where none has.
        spec: Its spec.
        fault: What it has changed.
    """

    seconds: float = 0.0
    axis: str = ""
    spec: str = ""
    fault: str = ""


Timed = tuple[str, ...]
"""What is timed: ``pass`` of a model, a dataset, a precision and a number of images, or ``defense`` and a dataset."""


def estimate(schedule: Schedule, workers: WorkerPool) -> Estimate:
    """Times one pass of each model and each defense on a few images and adds up what is left to do.

    Whoever does the work times it, so that what ends its process ends no other. A component that fails here counts
    as taking no time; it will fail, and be reported, in its own cells.
    """
    environment = workers.environment
    wanted = dict.fromkeys(
        thing for job in schedule.jobs.values() for thing in _timed(job.task, environment.batch_size)
    )
    measured = _measured(workers, wanted)
    seconds = {thing: found.seconds for thing, found in measured.items()}
    faults = {(found.axis, found.spec): found.fault for found in measured.values() if found.fault}
    attacks = dict.fromkeys(job.task.attack for job in schedule.jobs.values() if isinstance(job.task, CraftTask))
    with calls_watched("an attack"):
        passes = {attack: _passes(workspace(environment), attack) for attack in attacks}
    known = dict.fromkeys(wanted, 0.0) | seconds
    of_job = {name: _seconds(job.task, known, passes, environment.batch_size) for name, job in schedule.jobs.items()}
    rough = None in passes.values() or len(seconds) < len(wanted)
    return Estimate(sum(of_job.values()), of_job, rough, faults)


def _measured(workers: WorkerPool, wanted: Iterable[Timed]) -> dict[Timed, Measured]:
    """What the trial of each thing came to, but for those to which it does not come in time.

    No more are tried at once than there are workers, so that one that ends its worker ends no other trial.
    """
    waiting = deque(wanted)
    running: dict[Future[Measured], Timed] = {}
    seconds: dict[Timed, Measured] = {}
    until = time.monotonic() + _ALL_IN
    while (waiting or running) and time.monotonic() < until:
        while waiting and len(running) < workers.slots():
            thing = waiting.popleft()
            running[workers.submit(measure, workers.environment, thing)] = thing
        done, _ = wait(running, timeout=max(0.0, until - time.monotonic()), return_when=FIRST_COMPLETED)
        broken = [future for future in done if isinstance(future.exception(), BrokenExecutor)]
        if broken:  # by one of those that are tried
            seconds |= dict.fromkeys(running.values(), Measured())
            _log.info("not part of the forecast, since one of them ends its process: %s", list(running.values()))
            running.clear()
            workers.reopen()
            continue
        seconds |= {running.pop(future): _result(future) for future in done}
    if waiting or running:
        _log.info("the forecast leaves out what was not tried in %.0f s", _ALL_IN)
    return seconds


def _result(future: Future[Measured]) -> Measured:
    try:
        return future.result()
    except WorkerLostError as error:
        _log.info("not part of the forecast, since it ends its process: %s", describe(error))
        return Measured()


def measure(environment: Environment, thing: Timed) -> Measured:
    """How long something takes in this process; nothing where it fails, or has ended another process."""
    place, limit = workspace(environment), environment.timeout
    name = digest_of(["trial", *thing])[:24]
    if process_taint() or place.store.ended_at(name):  # the pool gives it to others, and it would end them, too
        return Measured()
    with place.store.timeout_marker(name) as note, given_time(None if limit is None else min(limit, _LONGEST), note):
        return _Trial(place).measured(thing)


def _timed(task: Task, batch_size: int) -> list[Timed]:
    """What a task takes the time of."""
    if isinstance(task, JoinTask):
        return []
    if isinstance(task, CraftTask):
        attacked = ("pass", task.model, task.dataset, task.precision, str(min(len(task.places), batch_size)))
        return [attacked, ("defense", task.defense, task.dataset)] if task.defense else [attacked]
    dataset, model, defense, count = _parts(task)
    return [("pass", model, dataset, FLOAT32, str(min(count, batch_size))), ("defense", defense, dataset)]


def _seconds(task: Task, measured: Mapping[Timed, float], passes: Mapping[str, float | None], batch_size: int) -> float:
    """Estimated seconds of a task."""
    each = [measured[thing] for thing in _timed(task, batch_size)]
    if isinstance(task, JoinTask):
        return 0.0
    if isinstance(task, CraftTask):
        times = passes[task.attack]
        return len(task.places) * task.draws * sum(each) * (_UNKNOWN_PASSES if times is None else times)
    return _parts(task)[3] * (each[0] / 3 + each[1])


def _parts(task: CleanTask | ScoreTask) -> tuple[str, str, str, int]:
    """Dataset, model, defense, and the number of samples."""
    if isinstance(task, CleanTask):
        return task.dataset, task.model, task.defense, len(task.ids)
    specs = task.specs
    return specs["dataset"], specs["model"], specs["defense"], sum(len(ids) for _, ids in task.chunks)


def _passes(place: Workspace, attack: str) -> float | None:
    """Passes an image that an attack takes, or None where it does not say; 0 of one that fails."""
    try:
        passes = place.attack(attack).passes()
        return None if passes is None else float(passes)
    except BaseException as error:
        if is_interruption(error):
            raise
        _log.info("not part of the forecast, since it fails: %s", describe(error))
        return 0.0


class _Trial:
    def __init__(self, place: Workspace) -> None:
        self.place = place

    def measured(self, thing: Timed) -> Measured:
        """How long something takes; nothing of what fails."""
        tell = lambda error: _log.info("a thread failed: %s", describe(error))  # noqa: E731
        with process_kept() as process, threads_watched(tell):
            self._tried(lambda: len(self.place.images(thing[2])))
            fault = self._fault(process, "dataset", thing[2])
            if fault is None:
                seconds = self._tried(lambda: self._seconds(thing))
                fault = self._fault(process, "defense" if thing[0] == "defense" else "model", thing[1])
            process.settled = True
        return fault or Measured(seconds)

    def _fault(self, process: ProcessState, axis: str, spec: str) -> Measured | None:
        """What a component has changed for the whole process, which computes nothing more then."""
        changed = process.put_back()
        if not changed:
            return None
        told = f"{axis} {spec.partition(':')[0]!r} changed {' and '.join(changed)} for the whole process"
        taint_process(told)
        return Measured(0.0, axis, spec, f"ContractError: {told}")

    def _tried(self, run: Callable[[], float]) -> float:
        try:
            return run()
        except BaseException as error:
            if is_interruption(error):
                raise
            _log.info("not part of the forecast, since it fails: %s", describe(error))
            return 0.0

    def _seconds(self, thing: Timed) -> float:
        if thing[0] == "defense":
            return self._defense_seconds(*thing[1:])
        model, dataset, precision, count = thing[1:]
        return self._pass_seconds(model, dataset, int(count), precision)

    def _images(self, spec: str, count: int) -> tuple[torch.Tensor, list[int]]:
        data = self.place.images(spec)
        ids = data.ids[:count].tolist()
        return data.take(ids)[0].to(self.place.device), ids

    def _pass_seconds(self, model: str, dataset: str, count: int, precision: str) -> float:
        """Seconds an image of a forward and backward pass, of so many images at once."""
        network = self.place.attacked_network(model, precision)
        images, _ = self._images(dataset, count)

        def run(some: torch.Tensor) -> None:
            points = some.clone().requires_grad_()
            torch.autograd.grad(network(points).sum(), points)

        run(images[:1])  # the first pass on a device sets it up
        return _time(lambda: run(images), self.place.device) / len(images)

    def _defense_seconds(self, defense: str, dataset: str) -> float:
        """Seconds an image of a defense."""
        chain = self.place.chain(defense)
        images, ids = self._images(dataset, _TRIAL_IMAGES)
        chain.apply(images[:1].clone(), SampleRandom(0, "estimate", ids[:1], images.device))  # imports, warm-up

        def run() -> None:
            chain.apply(images.clone(), SampleRandom(0, "estimate", ids, images.device))

        return _time(run, self.place.device, repeats=1) / len(images)


def _time(run: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The quickest of some runs, in seconds; no further one is begun after ``_ENOUGH``."""
    taken: list[float] = []
    while len(taken) < repeats and sum(taken) < _ENOUGH:
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return min(taken)
