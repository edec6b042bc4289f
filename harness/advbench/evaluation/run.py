"""The driver: plan in, cells in the store out, whatever fails on the way."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from concurrent.futures import Executor as FuturesExecutor
from functools import partial
from typing import Literal, Protocol

from advbench.analysis import Summary, summarise
from advbench.api import Executor
from advbench.errors import StoreError
from advbench.evaluation.cells import Cell, full, short
from advbench.evaluation.environment import Environment
from advbench.evaluation.plan import Plan
from advbench.evaluation.tasks import CleanTask, CraftTask, Outcome, ScoreTask, Task
from advbench.evaluation.work import execute, set_progress
from advbench.store import Store

__all__ = ["Job", "Observer", "Rerun", "Todo", "run_todo", "survey"]

Rerun = Literal["none", "failed", "all"]


@dataclasses.dataclass
class Job:
    """A task with its place in the order of work.

    Attributes:
        task: What to do.
        label: What it is, for people.
        samples: How many samples it goes over.
        waits_for: Names of the jobs that must have ended.
        cell: The cell that it finishes, or None.
    """

    task: Task
    label: str
    samples: int
    waits_for: set[str] = dataclasses.field(default_factory=set)
    cell: Cell | None = None


@dataclasses.dataclass
class Todo:
    """What is in the store already and what is left to do.

    Attributes:
        cached: Finished cells, by key; failures among them where they are not to be tried again.
        jobs: What is left, by name, in an order in which each can run.
    """

    cached: dict[str, Summary]
    jobs: dict[str, Job]


class Observer(Protocol):
    """Whoever watches a run."""

    def job_started(self, job: Job) -> None:
        """A job begins; with several workers, others may be under way."""

    def job_advanced(self, job: Job, samples: int) -> None:
        """The job of this process has done so many of its samples."""

    def job_ended(self, job: Job, outcome: Outcome) -> None:
        """A job has ended, well or not."""

    def cell_ended(self, cell: Cell, summary: Summary) -> None:
        """A cell has its result or its failure."""


def survey(plan: Plan, store: Store, rerun: Rerun) -> Todo:
    """Finds out what a plan still needs.

    Args:
        plan: The cells.
        store: Where results may already be.
        rerun: ``none`` takes all that is stored, failures too; ``failed`` (the command's default) tries stored
            failures again; ``all`` does everything again.
    """
    todo = Todo({}, {})
    fresh: dict[str, bool] = {}
    for cell in plan.cells:
        if not cell.key:
            continue
        summary = None if rerun == "all" else _read(store, cell)
        if summary is not None and (summary.ok or rerun == "none"):
            todo.cached[cell.key] = summary
            continue
        _add_jobs(todo, store, cell, rerun, fresh)
    return todo


def _read(store: Store, cell: Cell) -> Summary | None:
    """What the store holds of a cell, without its samples."""
    record = store.read_record("cells", cell.key, arrays=True)
    return None if record is None else summarise(record, cell.norm if cell.budget is None else None)


def _add_jobs(todo: Todo, store: Store, cell: Cell, rerun: Rerun, stored: dict[str, bool]) -> None:
    """Adds a cell's job and those that it waits for, unless their results are in the store."""
    specs, seed = cell.specs(), cell.seed
    defense = short(cell.defense)
    waits_for = set()
    if not _is_stored(stored, cell.clean_key, rerun, lambda key: store.read_record("clean", key)):
        waits_for.add(cell.clean_key)
        clean = CleanTask(
            cell.clean_material, cell.ids, specs["dataset"], specs["model"], specs["defense"], seed, cell.draws
        )
        todo.jobs.setdefault(cell.clean_key, Job(clean, f"clean images through {defense}", len(cell.ids)))
    for number, chunk in enumerate(cell.chunks, 1):
        if _is_stored(stored, chunk.key, rerun, store.read_tensors):
            continue
        waits_for.add(chunk.key)
        aim = chunk.aim
        craft = CraftTask(
            chunk.material,
            chunk.ids,
            specs["dataset"],
            full(aim.model),
            specs["attack"],
            aim.threat,
            full(aim.defense) if aim.defense else "",
            seed,
            aim.draws,
            aim.precision,
        )
        part = f" ({number}/{len(cell.chunks)})" if len(cell.chunks) > 1 else ""
        behind = f" behind {defense}" if aim.defense else ""
        label = f"{short(cell.attack)} on {short(aim.model)}{behind}{part}"
        todo.jobs.setdefault(chunk.key, Job(craft, label, len(chunk.ids)))
    chunks = tuple((chunk.key, chunk.ids) for chunk in cell.chunks)
    score = ScoreTask(cell.material, specs, chunks, cell.clean_key, seed, cell.draws)
    label = f"{short(cell.attack)} {cell.threat.name} through {defense}"
    todo.jobs[cell.key] = Job(score, label, len(cell.ids), waits_for, cell)


def _is_stored(stored: dict[str, bool], key: str, rerun: Rerun, read: Callable[[str], object]) -> bool:
    """Whether an entry is there and checks out; each is read once."""
    if key not in stored:
        stored[key] = rerun != "all" and read(key) is not None
    return stored[key]


def run_todo(
    todo: Todo,
    environment: Environment,
    executor: Executor,
    jobs: int,
    observer: Observer,
    *,
    fail_fast: bool = False,
) -> None:
    """Does what is left.

    A job that fails becomes the failure of every cell that waits for it, and the rest goes on.

    Raises:
        KeyboardInterrupt: The user interrupted; what had ended is in the store.
        StoreError: The store cannot be written.
    """
    _Driver(todo, environment, observer, fail_fast).run(executor, jobs)


class _Driver:
    """Runs jobs as soon as those that they wait for have ended, in their order."""

    def __init__(self, todo: Todo, environment: Environment, observer: Observer, fail_fast: bool) -> None:
        self.jobs = todo.jobs
        self.environment = environment
        self.store = Store(environment.store)
        self.observer = observer
        self.fail_fast = fail_fast
        self.order = {name: place for place, name in enumerate(todo.jobs)}
        self.blockers = {name: set(job.waits_for) for name, job in todo.jobs.items()}
        self.dependents: dict[str, list[str]] = {}
        for name, job in todo.jobs.items():
            for blocker in job.waits_for:
                self.dependents.setdefault(blocker, []).append(name)
        self.ready = [(self.order[name], name) for name, blockers in self.blockers.items() if not blockers]
        heapq.heapify(self.ready)
        self.suspects: list[str] = []
        self.tried: set[str] = set()

    def run(self, executor: Executor, jobs: int) -> None:
        running: dict[Future[Outcome], str] = {}
        pool = executor.open(jobs)
        try:
            while self.ready or self.suspects or running:
                self._fill(pool, running, jobs)
                lost = []
                for future in wait(running, return_when=FIRST_COMPLETED).done if running else ():
                    name = running.pop(future)
                    try:
                        outcome = future.result()
                    except BrokenExecutor:
                        lost.append(name)
                    else:
                        self._ended(name, outcome)
                if lost:
                    lost += running.values()
                    running.clear()
                    executor.abandon(pool)
                    pool = executor.open(jobs)
                    self._retry_alone(lost)
        except BaseException:
            executor.abandon(pool)
            raise
        pool.shutdown()

    def _fill(self, pool: FuturesExecutor, running: dict[Future[Outcome], str], jobs: int) -> None:
        """Hands as many jobs to the pool as may run; a suspect runs alone."""
        while (self.suspects or self.ready) and len(running) < (1 if self.suspects else jobs):
            name = self.suspects.pop() if self.suspects else heapq.heappop(self.ready)[1]
            job = self.jobs[name]
            if not self._wanted(name, job):
                self.observer.job_ended(job, Outcome(0.0))
                continue
            self.observer.job_started(job)
            set_progress(partial(self.observer.job_advanced, job))
            running[pool.submit(execute, self.environment, job.task)] = name
            if name in self.tried:
                return

    def _retry_alone(self, lost: list[str]) -> None:
        """Jobs that were under way when a worker died are tried again one at a time, so that only the culprit fails."""
        for name in lost:
            if name in self.tried:
                self._ended(name, Outcome(0.0, "its worker process died: killed, out of memory, or crashed"))
            else:
                self.tried.add(name)
                self.suspects.append(name)

    def _wanted(self, name: str, job: Job) -> bool:
        """Whether a cell still waits for the job; none does when another part of each has failed."""
        return job.cell is not None or any(dependent in self.blockers for dependent in self.dependents[name])

    def _ended(self, name: str, outcome: Outcome) -> None:
        job = self.jobs[name]
        self.observer.job_ended(job, outcome)
        if outcome.error:
            self._failed(name, outcome)
            if self.fail_fast:
                self.ready.clear()
                self.blockers.clear()
            return
        if job.cell is not None:
            summary = _read(self.store, job.cell)
            if summary is None:
                raise StoreError(f"cell {name} cannot be read back from the store {self.store.root}; check the disk")
            self.observer.cell_ended(job.cell, summary)
        for dependent in self.dependents.get(name, ()):
            blockers = self.blockers.get(dependent)
            if blockers is not None:
                blockers.discard(name)
                if not blockers:
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
        self.store.write_record("cells", cell.material, record)
        self.observer.cell_ended(cell, summarise(record, None))
