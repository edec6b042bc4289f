"""The driver: jobs in, cells in the store out, whatever fails on the way."""

from __future__ import annotations

import dataclasses
import heapq
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from functools import partial
from typing import Protocol

from advbench.analysis import Summary, summarise
from advbench.api import WorkerLostError
from advbench.errors import StoreError
from advbench.evaluation.plan.cells import Cell
from advbench.evaluation.plan.tasks import JoinTask, Outcome, ScoreTask, Task
from advbench.evaluation.run.pool import WorkerPool
from advbench.evaluation.run.schedule import Job, Schedule, read_summary
from advbench.evaluation.work.execute import RETRIES, execute, note_of, set_progress, too_long
from advbench.store import Store

__all__ = ["Observer", "run_schedule"]

_AXES = ("dataset", "model", "attack", "defense")
_LOOK_AGAIN = 0.5
"""Seconds after which a job that another run is at is looked at again."""


class Observer(Protocol):
    """Whoever watches a run."""

    def job_started(self, job: Job) -> None:
        """A job begins; with several workers, others may be under way."""

    def job_advanced(self, job: Job, samples: int) -> None:
        """The job of this process has done so many of its samples."""

    def job_waits(self, job: Job) -> None:
        """A job that began is put off: another run is at it, or its worker died."""

    def job_ended(self, job: Job, outcome: Outcome) -> None:
        """A job has ended, well or not."""

    def cell_ended(self, cell: Cell, summary: Summary) -> None:
        """A cell has its result or its failure."""


def run_schedule(
    schedule: Schedule,
    workers: WorkerPool,
    observer: Observer,
    *,
    again: bool = False,
    fail_fast: bool = False,
    faults: Mapping[tuple[str, str], str] | None = None,
) -> None:
    """Does what is left.

    A job that fails becomes the failure of every cell that waits for it, and the rest goes on. So do all jobs with a
    component that has changed a process for all others, which is not asked again. A job whose worker dies
    is given to another, twice at most. A job that another run on the same store is at is left to it.

    Args:
        schedule: What is left.
        workers: Who does it.
        observer: Who is told.
        again: Whether jobs are done although their results are in the store.
        fail_fast: Whether the first failure ends the run.
        faults: What components are known to have changed for a whole process, by their axis and spec.

    Raises:
        KeyboardInterrupt: The user interrupted; what had ended is in the store.
        StoreError: The store cannot be written.
    """
    driver = _Driver(schedule, workers, observer, again=again, fail_fast=fail_fast)
    driver.culprits |= faults or {}
    driver.run()


class _Driver:
    """Runs jobs as soon as those that they wait for have ended, in their order."""

    def __init__(
        self, schedule: Schedule, workers: WorkerPool, observer: Observer, *, again: bool, fail_fast: bool
    ) -> None:
        self.workers = workers
        self.environment = workers.environment
        self.store = Store(workers.environment.store)
        self.jobs = schedule.jobs
        self.observer = observer
        self.again = again
        self.fail_fast = fail_fast
        self.order = {name: place for place, name in enumerate(schedule.jobs)}
        self.blockers = {name: len(job.waits_for) for name, job in schedule.jobs.items()}
        self.dependents: dict[str, list[str]] = {}
        for name, job in schedule.jobs.items():
            for blocker in job.waits_for:
                self.dependents.setdefault(blocker, []).append(name)
        self.ready = [(self.order[name], name) for name, blockers in self.blockers.items() if not blockers]
        heapq.heapify(self.ready)
        self.elsewhere: list[tuple[float, str]] = []
        self.suspects: list[str] = []
        self.losses: Counter[str] = Counter()
        self.running: dict[Future[Outcome], str] = {}
        self.culprits: dict[tuple[str, str], str] = {}
        self.began: dict[str, float] = {}

    def run(self) -> None:
        while self.ready or self.suspects or self.running or self.elsewhere:
            self._fill()
            self._collect()

    def _fill(self) -> None:
        """Hands as many jobs to the crew as may run; a suspect runs alone."""
        now, slots = time.monotonic(), self.workers.slots()
        while self.elsewhere and self.elsewhere[0][0] <= now:
            _, name = heapq.heappop(self.elsewhere)
            heapq.heappush(self.ready, (self.order[name], name))
        while (self.suspects or self.ready) and len(self.running) < (1 if self.suspects else slots):
            name = self.suspects.pop() if self.suspects else heapq.heappop(self.ready)[1]
            job = self.jobs[name]
            if not self._wanted(name):
                self.observer.job_ended(job, Outcome(0.0))
                continue
            if fault := self._fault(job.task):
                self._ended(name, Outcome(0.0, fault))
                continue
            self.observer.job_started(job)
            set_progress(partial(self.observer.job_advanced, job))
            self.began[name] = time.monotonic()
            self.running[self.workers.submit(execute, self.environment, job.task, again=self.again)] = name

    def _collect(self) -> None:
        """Waits for jobs to end."""
        pause = max(0.0, self.elsewhere[0][0] - time.monotonic()) if self.elsewhere else None
        if not self.running:
            time.sleep(pause or 0.0)
            return
        lost = []
        for future in wait(self.running, timeout=pause, return_when=FIRST_COMPLETED).done:
            name = self.running.pop(future)
            try:
                outcome = future.result()
            except WorkerLostError as error:
                self._lost(name, error)
            except BrokenExecutor:
                lost.append(name)
            else:
                self._ended(name, outcome)
        if lost:
            self._broken([*lost, *self.running.values()])

    def _broken(self, lost: Sequence[str]) -> None:
        """One of the jobs broke the whole pool; which, is seen when each runs alone."""
        self.running.clear()
        self.workers.reopen()
        for name in lost:
            self.losses[name] += 1
            if self.losses[name] > 1:
                self._ended(name, Outcome(0.0, "its worker process died: killed, out of memory, or crashed"))
            else:
                self.observer.job_waits(self.jobs[name])
                self.suspects.append(name)

    def _lost(self, name: str, error: WorkerLostError) -> None:
        """A job whose worker died is given to another, unless its time was up, or that was tried before."""
        limit, taken, ended = self.environment.timeout, time.monotonic() - self.began[name], list[bool]()
        if limit is not None:
            note = note_of(self.environment, self.jobs[name].task)
            ended = self.store.ended_at(note, surely=True)
            self.store.forget_ended(note)
            if any(ended) and not error.killed:
                self._ended(name, Outcome(taken, too_long(limit)))
                return
        self.losses[name] += 1
        if self.losses[name] > RETRIES or error.final:
            times = f" {self.losses[name]} times" if self.losses[name] > 1 else ""
            told = f"its worker process died{times}: {error}"
            if limit is not None and error.final and not ended and taken >= limit:  # and nobody has seen how it ended
                told += f"; or {too_long(limit)}"
            self._ended(name, Outcome(taken, told))
            return
        self.observer.job_waits(self.jobs[name])
        heapq.heappush(self.ready, (self.order[name], name))

    def _fault(self, task: Task) -> str:
        """What a component of a task has changed for a whole process; empty where none has changed anything."""
        if not self.culprits or isinstance(task, JoinTask):
            return ""
        specs = task.specs if isinstance(task, ScoreTask) else dataclasses.asdict(task)
        axes = ("dataset", "model", "defense") if isinstance(task, ScoreTask) else _AXES
        found = (self.culprits.get((axis, specs.get(axis, "")), "") for axis in axes)
        return next(filter(None, found), "")

    def _wanted(self, name: str) -> bool:
        """Whether a cell still waits for the job; none does when another part of each has failed."""
        if self.jobs[name].cell is not None:
            return True
        return any(dependent in self.blockers and self._wanted(dependent) for dependent in self.dependents[name])

    def _ended(self, name: str, outcome: Outcome) -> None:
        job = self.jobs[name]
        if outcome.busy:
            self.observer.job_waits(job)
            heapq.heappush(self.elsewhere, (time.monotonic() + _LOOK_AGAIN, name))
            return
        self.observer.job_ended(job, outcome)
        if outcome.culprit:
            self.culprits[outcome.culprit] = outcome.error
        if outcome.error:
            self._failed(name, outcome)
            if self.fail_fast:
                self.ready.clear()
                self.blockers.clear()
            return
        if job.cell is not None:
            summary = read_summary(self.store, job.cell)
            if summary is None:
                raise StoreError(f"cell {name} cannot be read back from the store {self.store.root}; check the disk")
            self.observer.cell_ended(job.cell, summary)
        for dependent in self.dependents.get(name, ()):
            if dependent in self.blockers:
                self.blockers[dependent] -= 1
                if not self.blockers[dependent]:
                    heapq.heappush(self.ready, (self.order[dependent], dependent))

    def _failed(self, name: str, outcome: Outcome) -> None:
        """Records the failure of the job's own cell, or of every cell that waits for it."""
        job = self.jobs[name]
        if job.cell is not None:
            self._record_failure(job.cell, outcome)
        for dependent in self.dependents.get(name, ()):
            if self.blockers.pop(dependent, None) is not None:
                self._failed(dependent, outcome)

    def _record_failure(self, cell: Cell, outcome: Outcome) -> None:
        record = {
            **cell.specs(),
            "status": "error",
            "error": outcome.error,
            "traceback": outcome.traceback,
            "n": len(cell.ids),
        }
        self.store.write_record("cells", cell.key_inputs, record)
        self.observer.cell_ended(cell, summarise(record, None))
