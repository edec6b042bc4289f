"""Runs the jobs of a schedule in workers, and stores failures of cells."""

from __future__ import annotations

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
from advbench.evaluation.plan.tasks import CertifyTask, Outcome, Task
from advbench.evaluation.run.pool import WorkerPool
from advbench.evaluation.run.schedule import Job, Schedule, read_summary
from advbench.evaluation.work.execute import RETRIES, execute, set_progress, timeout_marker_name, timeout_message
from advbench.store import Store

__all__ = ["Observer", "run_schedule"]

_BUSY_RETRY = 0.5
"""Seconds after which a job that another run is doing is tried again."""


class Observer(Protocol):
    """Receives the events of a run, such as a progress display."""

    def job_started(self, job: Job) -> None:
        """A job starts; with several workers, others may be running."""

    def job_advanced(self, job: Job, samples: int) -> None:
        """The job that runs in this process has finished so many samples."""

    def job_waits(self, job: Job) -> None:
        """A started job is postponed: another run is doing it, or its worker died."""

    def job_ended(self, job: Job, outcome: Outcome) -> None:
        """A job has succeeded or failed."""

    def cell_ended(self, cell: Cell, summary: Summary) -> None:
        """A cell has a result or a failure."""


def run_schedule(
    schedule: Schedule,
    workers: WorkerPool,
    observer: Observer,
    *,
    again: bool = False,
    fail_fast: bool = False,
    faults: Mapping[tuple[str, str], str] | None = None,
) -> None:
    """Runs the jobs of a schedule.

    If a job fails, every cell that waits for it fails, and the other jobs continue. A component that has changed a
    process is not run again, so that all its jobs fail. If a worker dies, its job is given to another worker, at most
    twice. A job that another run on the same store is doing is left to that run.

    Args:
        schedule: The jobs.
        workers: Run the jobs.
        observer: Receives events.
        again: Whether jobs run although their results are stored.
        fail_fast: Whether the first failure ends the run.
        faults: Errors of components that are known to have changed a process, by axis and spec.

    Raises:
        KeyboardInterrupt: The user interrupted the run; finished results are stored.
        StoreError: The store cannot be written.
    """
    driver = _Driver(schedule, workers, observer, again=again, fail_fast=fail_fast)
    driver.faults |= faults or {}
    driver.run()


class _Driver:
    """Runs each job as soon as those that it waits for have ended, in the order of the schedule."""

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
        self.order = {name: position for position, name in enumerate(schedule.jobs)}
        self.blockers = {name: len(job.waits_for) for name, job in schedule.jobs.items()}
        self.dependents: dict[str, list[str]] = {}
        for name, job in schedule.jobs.items():
            for blocker in job.waits_for:
                self.dependents.setdefault(blocker, []).append(name)
        self.ready = [(self.order[name], name) for name, blockers in self.blockers.items() if not blockers]
        heapq.heapify(self.ready)
        self.postponed: list[tuple[float, str]] = []
        self.run_alone: list[str] = []
        self.losses: Counter[str] = Counter()
        self.running: dict[Future[Outcome], str] = {}
        self.faults: dict[tuple[str, str], str] = {}
        self.started: dict[str, float] = {}
        self.stopped = False

    def run(self) -> None:
        while self.ready or self.run_alone or self.running or self.postponed:
            self._submit()
            self._collect()
            if self.stopped:
                self._drop_waiting()

    def _drop_waiting(self) -> None:
        """Gives up every job that is not running, also those that another run is doing or whose worker died."""
        self.ready.clear()
        self.postponed.clear()
        self.run_alone.clear()
        self.blockers.clear()

    def _submit(self) -> None:
        """Submits as many jobs as may run; those that may have broken the pool run alone."""
        now, slots = time.monotonic(), self.workers.slots()
        while self.postponed and self.postponed[0][0] <= now:
            _, name = heapq.heappop(self.postponed)
            heapq.heappush(self.ready, (self.order[name], name))
        while (self.run_alone or self.ready) and len(self.running) < (1 if self.run_alone else slots):
            name = self.run_alone.pop() if self.run_alone else heapq.heappop(self.ready)[1]
            job = self.jobs[name]
            if not self._is_needed(name):
                self.observer.job_ended(job, Outcome(0.0))
                continue
            if fault := self._fault(job.task):
                self._ended(name, Outcome(0.0, fault))
                continue
            self.observer.job_started(job)
            set_progress(partial(self.observer.job_advanced, job))
            self.started[name] = time.monotonic()
            self.running[self.workers.submit(execute, self.environment, job.task, again=self.again)] = name

    def _collect(self) -> None:
        """Waits until a job ends."""
        pause = max(0.0, self.postponed[0][0] - time.monotonic()) if self.postponed else None
        if not self.running:
            time.sleep(pause or 0.0)
            return
        broken = []
        for future in wait(self.running, timeout=pause, return_when=FIRST_COMPLETED).done:
            name = self.running.pop(future)
            try:
                outcome = future.result()
            except WorkerLostError as error:
                self._worker_died(name, error)
            except BrokenExecutor:
                broken.append(name)
            else:
                self._ended(name, outcome)
        if broken:
            self._pool_broke([*broken, *self.running.values()])

    def _pool_broke(self, names: Sequence[str]) -> None:
        """One of these jobs broke the whole pool; running each alone shows which."""
        self.running.clear()
        self.workers.reopen()
        for name in names:
            self.losses[name] += 1
            if self.losses[name] > 1:
                self._ended(name, Outcome(0.0, "its worker process died: killed, out of memory, or crashed"))
            else:
                self.observer.job_waits(self.jobs[name])
                self.run_alone.append(name)

    def _worker_died(self, name: str, error: WorkerLostError) -> None:
        """Gives the job of a dead worker to another worker, unless it timed out or has been tried often enough."""
        limit, seconds, markers = self.environment.timeout, time.monotonic() - self.started[name], list[bool]()
        if limit is not None:
            marker = timeout_marker_name(self.environment, self.jobs[name].task)
            markers = self.store.ended_attempts(marker, certain=True)
            self.store.forget_attempts(marker)
            if any(markers) and not error.killed:
                self._ended(name, Outcome(seconds, timeout_message(limit)))
                return
        self.losses[name] += 1
        if self.losses[name] > RETRIES or error.final:
            times = f" {self.losses[name]} times" if self.losses[name] > 1 else ""
            message = f"its worker process died{times}: {error}"
            if limit is not None and error.final and not markers and seconds >= limit:  # no marker says how it ended
                message += f"; or {timeout_message(limit)}"
            self._ended(name, Outcome(seconds, message))
            return
        self.observer.job_waits(self.jobs[name])
        heapq.heappush(self.ready, (self.order[name], name))

    def _fault(self, task: Task) -> str:
        """The error of a component of the task that has changed a process before; empty if there is none."""
        return next((self.faults[used] for used in task.components.items() if used in self.faults), "")

    def _is_needed(self, name: str) -> bool:
        """Whether a cell still waits for the job: not if another job of each of these cells has failed."""
        if self.jobs[name].cell is not None or self.jobs[name].has_result:
            return True
        return any(dependent in self.blockers and self._is_needed(dependent) for dependent in self.dependents[name])

    def _ended(self, name: str, outcome: Outcome) -> None:
        job = self.jobs[name]
        if outcome.busy:
            self.observer.job_waits(job)
            heapq.heappush(self.postponed, (time.monotonic() + _BUSY_RETRY, name))
            return
        self.observer.job_ended(job, outcome)
        if outcome.culprit:
            self.faults[outcome.culprit] = outcome.error
        if outcome.error:
            self._failed(name, outcome)
            if self.fail_fast and not outcome.skipped:
                self.stopped = True
                self._drop_waiting()
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
        """Stores the failure of the job's own cell, or of every cell that waits for it."""
        job = self.jobs[name]
        if job.cell is not None:
            self._record_failure(job.cell, outcome)
        if isinstance(job.task, CertifyTask):
            record = {"status": "error", "error": outcome.error, "traceback": outcome.traceback}
            self.store.write_record("certificates", job.task.key_inputs, record)
        for dependent in self.dependents.get(name, ()):
            if self.blockers.pop(dependent, None) is not None:
                self._failed(dependent, outcome)

    def _record_failure(self, cell: Cell, outcome: Outcome) -> None:
        record = {
            **cell.stored_specs(),
            "status": "skipped" if outcome.skipped else "error",
            "error": outcome.error,
            "traceback": outcome.traceback,
            "n": len(cell.ids),
        }
        self.store.write_record("cells", cell.key_inputs, record)
        self.observer.cell_ended(cell, summarise(record, None))
