"""Estimates how long a run takes, by timing its components on a few images."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import TypeAlias, TypeVar

from advbench.api import WorkerLostError
from advbench.errors import describe
from advbench.evaluation.plan.tasks import CertifyTask, CraftTask, FitTask, Task
from advbench.evaluation.run.pool import WorkerPool
from advbench.evaluation.run.schedule import Schedule
from advbench.evaluation.work.attacked.batch import count_runs
from advbench.evaluation.work.memory.batches import BatchMemory
from advbench.evaluation.work.timing.components import Measurement, Timing, measure
from advbench.evaluation.work.timing.pilot import Pilot, PilotResult, pilot_of, run_pilot
from advbench.evaluation.work.workspace import Environment, Workspace, get_workspace
from advbench.process.state import is_user_interrupt, undo_process_changes

__all__ = ["Estimate", "estimate"]

_TOTAL_SECONDS = 60.0
"""Components that are not measured after so many seconds are left out of the estimate."""

_PILOT_SECONDS = 30.0
"""Attacks for which no pilot has started after so many seconds of pilots count as they declare."""

_UNKNOWN_PASSES = 200
"""The assumed number of passes for an attack that does not declare it."""

_log = logging.getLogger("advbench.estimate")

A = TypeVar("A")
K = TypeVar("K")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The estimated time of a run.

    Attributes:
        seconds: The sum for all jobs, on one worker.
        of_job: The seconds of each job, by name.
        rough: Whether an attack does not declare its passes, or something could not be measured.
        faults: Errors of components that have changed a process, by axis and spec.
        rough_jobs: Names of the jobs whose estimate is rough.
        memory: The models that need much memory for large images, each with what a batch needs.
    """

    seconds: float
    of_job: dict[str, float]
    rough: bool
    faults: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    rough_jobs: frozenset[str] = frozenset()
    memory: Mapping[str, BatchMemory] = dataclasses.field(default_factory=dict)

    def of(self, names: Iterable[str]) -> Estimate:
        """The estimate of some of the jobs."""
        of_job = {name: self.of_job[name] for name in names}
        rough_jobs = self.rough_jobs & of_job.keys()
        return Estimate(sum(of_job.values()), of_job, bool(rough_jobs), self.faults, rough_jobs, self.memory)


def estimate(schedule: Schedule, workers: WorkerPool) -> Estimate:
    """Times one pass of each model and each defense on a few images, and adds up the jobs that are left.

    For attacks that take long, a pilot counts the passes that they really take. The workers measure, so that a
    component that ends its process ends no other. A component that fails here counts as taking no time; its own cells
    report the failure.
    """
    environment = workers.environment
    with undo_process_changes("a defense"):
        whole = _timed_with_model(get_workspace(environment), schedule)
    wanted = dict.fromkeys(
        timing for job in schedule.jobs.values() for timing in _timings(job.task, environment.batch_size, whole)
    )
    results = _measure_all(workers, measure, {timing: timing for timing in wanted}, _TOTAL_SECONDS, Measurement())
    seconds = {timing: result.seconds for timing, result in results.items()}
    faults = {(result.axis, result.spec): result.fault for result in results.values() if result.fault}
    specs = (job.task.components.get("attack", "") for job in schedule.jobs.values())
    attacks = dict.fromkeys(filter(None, specs))
    with undo_process_changes("an attack"):
        passes = {attack: _passes(get_workspace(environment), attack) for attack in attacks}
    with undo_process_changes("a defense"):
        crafts = [job.task for job in schedule.jobs.values() if isinstance(job.task, (CraftTask, FitTask))]
        runs = {(task.attack, task.defense): _runs(get_workspace(environment), task) for task in crafts}
    with undo_process_changes("an attack"):
        fits = {
            task.claim: _fit_passes(get_workspace(environment), task) for task in crafts if isinstance(task, FitTask)
        }
    costs = _Costs(dict.fromkeys(wanted, 0.0) | seconds, passes, runs, environment.batch_size, fits=fits, whole=whole)
    tasks = {name: job.task for name, job in schedule.jobs.items()}
    pilots = costs.pilots(tasks.values(), workers.live)
    costs.counted = _measure_all(workers, run_pilot, pilots, _PILOT_SECONDS, None)
    of_job = {name: costs.seconds_of(task) for name, task in tasks.items()}
    rough = frozenset(
        name
        for name, task in tasks.items()
        if passes.get(task.components.get("attack", ""), 0.0) is None
        or fits.get(task.claim, 0.0) is None
        or not seconds.keys() >= set(_timings(task, environment.batch_size, whole))
    )
    memory = {timing[1]: result.memory for timing, result in results.items() if result.memory.image}
    return Estimate(sum(of_job.values()), of_job, bool(rough), faults, rough, memory)


def _measure_all(
    workers: WorkerPool, function: Callable[[Environment, A], R], wanted: Mapping[K, A], seconds: float, failed: R
) -> dict[K, R]:
    """Calls a function in the workers with all of these, except those for which there is no time.

    No more are submitted at once than there are workers, so that one that ends its worker ends no other.

    Args:
        workers: The workers.
        function: What to call.
        wanted: Its arguments, each with a name.
        seconds: When to stop.
        failed: The result if it ends its worker.

    Returns:
        The results by the same names.
    """
    waiting = deque(wanted)
    running: dict[Future[R], K] = {}
    results: dict[K, R] = {}
    deadline = time.monotonic() + seconds
    while (waiting or running) and time.monotonic() < deadline:
        while waiting and len(running) < workers.slots():
            name = waiting.popleft()
            running[workers.submit(function, workers.environment, wanted[name])] = name
        done, _ = wait(running, timeout=max(0.0, deadline - time.monotonic()), return_when=FIRST_COMPLETED)
        broken = [future for future in done if isinstance(future.exception(), BrokenExecutor)]
        if broken:  # by one of those that are running
            results |= dict.fromkeys(running.values(), failed)
            _log.info("not part of the estimate, since one of them ends its process: %s", list(running.values()))
            running.clear()
            workers.reopen()
            continue
        results |= {running.pop(future): _result(future, failed) for future in done}
    if waiting or running:
        _log.info("the estimate leaves out what was not measured in %.0f s", seconds)
    return results


def _result(future: Future[R], failed: R) -> R:
    try:
        return future.result()
    except WorkerLostError as error:
        _log.info("not part of the estimate, since it ends its process: %s", describe(error))
        return failed


def _timed_with_model(workspace: Workspace, schedule: Schedule) -> frozenset[tuple[str, str]]:
    """The defenses, each with a dataset, that are timed together with the model.

    These classify, or change the shape of images, so that the model may not take those of the dataset.
    """
    used = {(specs["defense"], specs["dataset"]) for specs in _all_components(schedule) if "defense" in specs}
    return frozenset(pair for pair in used if _needs_model(workspace, *pair))


def _all_components(schedule: Schedule) -> list[dict[str, str]]:
    return [job.task.components for job in schedule.jobs.values()]


def _needs_model(workspace: Workspace, defense: str, dataset: str) -> bool:
    try:
        chain, shape = workspace.chain(defense), workspace.dataset(dataset).image_shape
        return chain.classifying is not None or chain.output_shape(shape) != shape
    except BaseException as error:
        if is_user_interrupt(error):
            raise
        _log.info("not part of the estimate, since it fails: %s", describe(error))
        return False


def _timings(task: Task, batch_size: int, whole: Collection[tuple[str, str]] = ()) -> list[Timing]:
    """What to time for a task: its model, and its defense if it has one; or both together.

    Args:
        task: The task.
        batch_size: How many images a component gets at once.
        whole: The defenses, each with a dataset, that are timed together with the model.
    """
    specs = task.components
    if not specs:
        return []
    if isinstance(task, CertifyTask):
        return [("certify", specs["defense"], specs["dataset"], specs["model"])]
    if (specs.get("defense", ""), specs["dataset"]) in whole:
        what = "attacked" if isinstance(task, CraftTask | FitTask) else "classify"
        return [(what, specs["defense"], specs["dataset"], specs["model"])]
    count = str(min(task.samples, batch_size))
    timings: list[Timing] = [("pass", specs["model"], specs["dataset"], task.precision, count)]
    if "defense" in specs:
        timings.append(("defense", specs["defense"], specs["dataset"]))
    return timings


class _Costs:
    """What tasks cost.

    Args:
        measured: Seconds of each timing for each image.
        passes: The passes that attacks declare; None for an attack that declares none.
        runs: How often each attack runs on each defense.
        batch_size: How many images a component gets at once.
        fits: The passes that fits declare, by the tasks' claims; None for a fit that declares none.
        whole: The defenses, each with a dataset, that are timed together with the model.

    Attributes:
        counted: What pilots have shown, by the attack and the classifier; None where one has ended its process.
    """

    def __init__(
        self,
        measured: Mapping[Timing, float],
        passes: Mapping[str, float | None],
        runs: Mapping[tuple[str, str], int],
        batch_size: int,
        *,
        fits: Mapping[str, float | None],
        whole: Collection[tuple[str, str]] = (),
    ) -> None:
        self.fits = fits
        self.whole = whole
        self.measured = measured
        self.passes = passes
        self.runs = runs
        self.batch_size = batch_size
        self.counted: Mapping[_AttackedClassifier, PilotResult | None] = {}

    def seconds_of(self, task: Task) -> float:
        """Estimated seconds of a task."""
        timings = _timings(task, self.batch_size, self.whole)
        if not timings:
            return 0.0
        network, defense = (*(self.measured[timing] for timing in timings), 0.0)[:2]
        if isinstance(task, FitTask):
            passes = self.fits[task.claim]
            passes = task.samples * _UNKNOWN_PASSES if passes is None else passes
            return passes * self._pass_seconds(task) * self.runs[task.attack, task.defense]
        if timings[0][0] in ("classify", "certify"):
            return task.samples * network
        if not isinstance(task, CraftTask):  # a forward pass takes a third of a forward and backward pass
            return task.samples * (network / 3 + defense)
        return task.samples * self._pass_seconds(task) * self._passes_of(task) * self.runs[task.attack, task.defense]

    def pilots(self, tasks: Iterable[Task], live: Sequence[str]) -> dict[_AttackedClassifier, Pilot]:
        """The pilots that are worth their time, longest jobs first.

        Args:
            tasks: All tasks.
            live: Names of components that only this process has. What an attack among them leaves behind when it is
                stopped could not be left to another process.
        """
        total: dict[_AttackedClassifier, float] = {}
        examples: dict[_AttackedClassifier, CraftTask] = {}
        for task in tasks:
            if (
                isinstance(task, CraftTask)
                and not task.artefact
                and self.passes[task.attack]
                and task.attack.partition(":")[0] not in live
            ):
                group = _attacked_classifier(task)
                total[group] = total.get(group, 0.0) + self.seconds_of(task)
                examples.setdefault(group, task)
        pilots = {
            group: pilot_of(task, self._passes_of(task), self._pass_seconds(task), total[group])
            for group, task in sorted(examples.items(), key=lambda item: -total[item[0]])
        }
        return {group: pilot for group, pilot in pilots.items() if pilot is not None}

    def _pass_seconds(self, task: CraftTask | FitTask) -> float:
        """Seconds of a forward and backward pass of the attacked classifier, for each image."""
        return task.draws * sum(self.measured[timing] for timing in _timings(task, self.batch_size, self.whole))

    def _passes_of(self, task: CraftTask) -> float:
        """The passes of one run for each image; other work of the attack counts as passes, too."""
        counted = self.counted.get(_attacked_classifier(task))
        if counted is not None:
            return counted.passes * counted.overhead
        passes = self.passes[task.attack]
        passes = _UNKNOWN_PASSES if passes is None else passes
        return passes if task.max_queries is None else min(passes, task.max_queries)


_AttackedClassifier: TypeAlias = tuple[str, ...]
"""The specs of an attack, its dataset, model and defense, the precision, and the number of draws."""


def _attacked_classifier(task: CraftTask) -> _AttackedClassifier:
    return (task.attack, task.dataset, task.model, task.defense, task.precision, str(task.draws))


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


def _fit_passes(workspace: Workspace, task: FitTask) -> float | None:
    """How many passes a fit takes; None if it does not declare it, 0 if it fails."""
    try:
        passes = workspace.attack(task.attack).fit_passes(task.samples)
        return None if passes is None else float(passes)
    except BaseException as error:
        if is_user_interrupt(error):
            raise
        _log.info("not part of the estimate, since it fails: %s", describe(error))
        return 0.0


def _runs(workspace: Workspace, task: CraftTask | FitTask) -> int:
    """How often an attack runs, with one approximation of its defense after another; 1 if that fails."""
    try:
        return count_runs(workspace, task)
    except BaseException as error:
        if is_user_interrupt(error):
            raise
        _log.info("not part of the estimate, since it fails: %s", describe(error))
        return 1
