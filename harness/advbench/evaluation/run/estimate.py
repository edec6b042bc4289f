"""Estimates how long a run takes, by timing its components on a few images."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import TYPE_CHECKING, NamedTuple

from advbench.api import SampleRandom, WorkerLostError, process_taint
from advbench.api.executor import taint_process
from advbench.errors import describe
from advbench.evaluation.plan.tasks import Task
from advbench.evaluation.run.pool import WorkerPool
from advbench.evaluation.run.schedule import Schedule
from advbench.evaluation.work.execute import time_limit
from advbench.evaluation.work.workspace import Environment, Workspace, get_workspace
from advbench.process.state import ProcessState, is_user_interrupt, isolated_process, undo_process_changes
from advbench.process.threads import report_thread_errors
from advbench.store import digest_of

if TYPE_CHECKING:
    import torch

__all__ = ["Estimate", "estimate"]

_DEFENSE_IMAGES = 32
_TIMING_SECONDS = 0.1
"""No further repeat starts after so many seconds: the estimate must not delay the run."""

_TIMEOUT = 10.0
"""The time limit in seconds of one measurement, if tasks have a time limit."""

_TOTAL_SECONDS = 60.0
"""Components that are not measured after so many seconds are left out of the estimate."""

_log = logging.getLogger("advbench.estimate")
_UNKNOWN_PASSES = 200
"""The assumed number of passes for an attack that does not declare it."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The estimated time of a run.

    Attributes:
        seconds: The sum for all jobs, on one worker.
        of_job: The seconds of each job, by name.
        rough: Whether an attack does not declare its passes, or something could not be measured.
        faults: Errors of components that have changed a process, by axis and spec.
    """

    seconds: float
    of_job: dict[str, float]
    rough: bool
    faults: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)


class Measurement(NamedTuple):
    """The result of timing one component.

    Attributes:
        seconds: Seconds for each image; 0 if it failed.
        axis: The axis of a component that has changed the process; empty if none has.
        spec: Its spec.
        fault: Its error.
    """

    seconds: float = 0.0
    axis: str = ""
    spec: str = ""
    fault: str = ""


Timing = tuple[str, ...]
"""What to time: (``pass``, model, dataset, precision, number of images) or (``defense``, defense, dataset)."""


def estimate(schedule: Schedule, workers: WorkerPool) -> Estimate:
    """Times one pass of each model and each defense on a few images, and adds up the jobs that are left.

    The workers measure, so that a component that ends its process ends no other. A component that fails here counts as
    taking no time; its own cells report the failure.
    """
    environment = workers.environment
    wanted = dict.fromkeys(
        timing for job in schedule.jobs.values() for timing in _timings(job.task, environment.batch_size)
    )
    results = _measure_all(workers, wanted)
    seconds = {timing: result.seconds for timing, result in results.items()}
    faults = {(result.axis, result.spec): result.fault for result in results.values() if result.fault}
    specs = (job.task.components.get("attack", "") for job in schedule.jobs.values())
    attacks = dict.fromkeys(filter(None, specs))
    with undo_process_changes("an attack"):
        passes = {attack: _passes(get_workspace(environment), attack) for attack in attacks}
    known = dict.fromkeys(wanted, 0.0) | seconds
    of_job = {name: _seconds(job.task, known, passes, environment.batch_size) for name, job in schedule.jobs.items()}
    rough = None in passes.values() or len(seconds) < len(wanted)
    return Estimate(sum(of_job.values()), of_job, rough, faults)


def _measure_all(workers: WorkerPool, wanted: Iterable[Timing]) -> dict[Timing, Measurement]:
    """Measures all of these, except those for which there is no time.

    No more are submitted at once than there are workers, so that one that ends its worker ends no other.
    """
    waiting = deque(wanted)
    running: dict[Future[Measurement], Timing] = {}
    results: dict[Timing, Measurement] = {}
    deadline = time.monotonic() + _TOTAL_SECONDS
    while (waiting or running) and time.monotonic() < deadline:
        while waiting and len(running) < workers.slots():
            timing = waiting.popleft()
            running[workers.submit(measure, workers.environment, timing)] = timing
        done, _ = wait(running, timeout=max(0.0, deadline - time.monotonic()), return_when=FIRST_COMPLETED)
        broken = [future for future in done if isinstance(future.exception(), BrokenExecutor)]
        if broken:  # by one of those that are running
            results |= dict.fromkeys(running.values(), Measurement())
            _log.info("not part of the estimate, since one of them ends its process: %s", list(running.values()))
            running.clear()
            workers.reopen()
            continue
        results |= {running.pop(future): _result(future) for future in done}
    if waiting or running:
        _log.info("the estimate leaves out what was not measured in %.0f s", _TOTAL_SECONDS)
    return results


def _result(future: Future[Measurement]) -> Measurement:
    try:
        return future.result()
    except WorkerLostError as error:
        _log.info("not part of the estimate, since it ends its process: %s", describe(error))
        return Measurement()


def measure(environment: Environment, timing: Timing) -> Measurement:
    """Times one component in this process; 0 if it fails, or has ended another process."""
    workspace, limit = get_workspace(environment), environment.timeout
    name = digest_of(["trial", *timing])[:24]
    if process_taint() or workspace.store.ended_attempts(
        name
    ):  # the pool submits it again, and it would end more workers
        return Measurement()
    seconds = None if limit is None else min(limit, _TIMEOUT)
    with workspace.store.timeout_marker(name) as marker, time_limit(seconds, marker):
        return _Timer(workspace).measure(timing)


def _timings(task: Task, batch_size: int) -> list[Timing]:
    """What to time for a task: its model, and its defense if it has one."""
    specs = task.components
    if not specs:
        return []
    count = str(min(task.samples, batch_size))
    timings: list[Timing] = [("pass", specs["model"], specs["dataset"], task.precision, count)]
    if "defense" in specs:
        timings.append(("defense", specs["defense"], specs["dataset"]))
    return timings


def _seconds(
    task: Task, measured: Mapping[Timing, float], passes: Mapping[str, float | None], batch_size: int
) -> float:
    """Estimated seconds of a task."""
    timings = _timings(task, batch_size)
    if not timings:
        return 0.0
    network, defense = (*(measured[timing] for timing in timings), 0.0)[:2]
    attack = task.components.get("attack")
    if attack is None:  # a forward pass takes a third of a forward and backward pass
        return task.samples * (network / 3 + defense)
    count = passes[attack]
    return task.samples * task.draws * (network + defense) * (_UNKNOWN_PASSES if count is None else count)


def _passes(workspace: Workspace, attack: str) -> float | None:
    """How many passes an attack takes for each image; None if it does not declare it, 0 if it fails."""
    try:
        passes = workspace.attack(attack).passes()
        return None if passes is None else float(passes)
    except BaseException as error:
        if is_user_interrupt(error):
            raise
        _log.info("not part of the estimate, since it fails: %s", describe(error))
        return 0.0


class _Timer:
    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def measure(self, timing: Timing) -> Measurement:
        """How long a component takes; 0 if it fails."""
        log_error = lambda error: _log.info("a thread failed: %s", describe(error))  # noqa: E731
        with isolated_process() as process, report_thread_errors(log_error):
            self._attempt(lambda: len(self.workspace.images(timing[2])))
            fault = self._fault(process, "dataset", timing[2])
            if fault is None:
                seconds = self._attempt(lambda: self._seconds(timing))
                fault = self._fault(process, "defense" if timing[0] == "defense" else "model", timing[1])
            process.restored = True
        return fault or Measurement(seconds)

    def _fault(self, process: ProcessState, axis: str, spec: str) -> Measurement | None:
        """The error of a component that has changed the process, which computes nothing more then."""
        changes = process.restore()
        if not changes:
            return None
        message = f"{axis} {spec.partition(':')[0]!r} changed {' and '.join(changes)} for the whole process"
        taint_process(message)
        return Measurement(0.0, axis, spec, f"ContractError: {message}")

    def _attempt(self, run: Callable[[], float]) -> float:
        try:
            return run()
        except BaseException as error:
            if is_user_interrupt(error):
                raise
            _log.info("not part of the estimate, since it fails: %s", describe(error))
            return 0.0

    def _seconds(self, timing: Timing) -> float:
        if timing[0] == "defense":
            return self._defense_seconds(*timing[1:])
        model, dataset, precision, count = timing[1:]
        return self._pass_seconds(model, dataset, int(count), precision)

    def _images(self, spec: str, count: int) -> tuple[torch.Tensor, list[int]]:
        data = self.workspace.images(spec)
        ids = data.ids[:count].tolist()
        return data.take(ids)[0].to(self.workspace.device), ids

    def _pass_seconds(self, model: str, dataset: str, count: int, precision: str) -> float:
        """Seconds for each image of a forward and backward pass over a batch of this size."""
        import torch

        network = self.workspace.attacked_network(model, precision)
        images, _ = self._images(dataset, count)

        def run(batch: torch.Tensor) -> None:
            points = batch.clone().requires_grad_()
            torch.autograd.grad(network(points).sum(), points)

        run(images[:1])  # the first pass on a device sets it up
        return _time(lambda: run(images), self.workspace.device) / len(images)

    def _defense_seconds(self, defense: str, dataset: str) -> float:
        """Seconds for each image of a defense."""
        chain = self.workspace.chain(defense)
        images, ids = self._images(dataset, _DEFENSE_IMAGES)
        chain.apply(images[:1].clone(), SampleRandom(0, "estimate", ids[:1], images.device))  # imports, warm-up

        def run() -> None:
            chain.apply(images.clone(), SampleRandom(0, "estimate", ids, images.device))

        return _time(run, self.workspace.device, repeats=1) / len(images)


def _time(run: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The fastest of some runs, in seconds; no further one starts after ``_TIMING_SECONDS``."""
    import torch

    seconds: list[float] = []
    while len(seconds) < repeats and sum(seconds) < _TIMING_SECONDS:
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds)
