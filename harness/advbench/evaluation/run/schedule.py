"""What a plan still needs: which of its cells are in the store, and the jobs that make the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from advbench.analysis import Summary, summarise
from advbench.evaluation.plan.build import Plan
from advbench.evaluation.plan.cells import Cell, Chunk, full, short
from advbench.evaluation.plan.tasks import CleanTask, CraftTask, JoinTask, ScoreTask, Task
from advbench.store import Store

__all__ = ["Job", "Rerun", "Schedule", "build_schedule", "read_summary"]

Rerun = Literal["none", "failed", "all"]


@dataclasses.dataclass(slots=True)
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
    waits_for: tuple[str, ...] = ()
    cell: Cell | None = None


@dataclasses.dataclass
class Schedule:
    """What is in the store already and what is left to do.

    Attributes:
        cached: Finished cells, by key; failures among them where they are not to be tried again.
        jobs: What is left, by name, in an order in which each can run.
    """

    cached: dict[str, Summary]
    jobs: dict[str, Job]


def build_schedule(plan: Plan, store: Store, rerun: Rerun, batch_size: int) -> Schedule:
    """Finds out what a plan still needs.

    Args:
        plan: The cells.
        store: Where results may already be.
        rerun: ``none`` takes all that is stored, failures too; ``failed`` (the command's default) tries stored
            failures again; ``all`` does everything again.
        batch_size: How many images go through a component at once. Chunks of more samples are made in parts of so
            many, so that workers share them and a kill costs no more than a part.
    """
    found = _Survey(store, rerun, batch_size)
    for cell in plan.cells:
        if cell.key:
            found.add(cell)
    return found.schedule


def read_summary(store: Store, cell: Cell) -> Summary | None:
    """What the store holds of a cell, without its samples."""
    record = store.read_record("cells", cell.key, arrays=True)
    return None if record is None else summarise(record, cell.norm if cell.budget is None else None)


class _Survey:
    def __init__(self, store: Store, rerun: Rerun, batch_size: int) -> None:
        self.store = store
        self.rerun = rerun
        self.batch_size = batch_size
        self.schedule = Schedule({}, {})
        self._stored: dict[str, bool] = {}
        self._last: tuple[tuple[Chunk, ...], tuple[tuple[str, tuple[int, ...]], ...]] = ((), ())

    def add(self, cell: Cell) -> None:
        """Adds a cell's result, or its job and those that it waits for, unless their results are in the store."""
        summary = None if self.rerun == "all" else read_summary(self.store, cell)
        if summary is not None and (summary.ok or self.rerun == "none"):
            self.schedule.cached[cell.key] = summary
            return
        specs, defense = cell.specs(), short(cell.defense)
        waits_for = [chunk.key for chunk in cell.chunks if not self._has_chunk(chunk.key)]
        if not self._has_clean(cell.clean_key):
            waits_for.append(cell.clean_key)
        if cell.clean_key in waits_for and cell.clean_key not in self.schedule.jobs:
            clean = CleanTask(
                cell.clean_key_inputs,
                cell.ids,
                specs["dataset"],
                specs["model"],
                specs["defense"],
                cell.seed,
                cell.draws,
            )
            self.schedule.jobs[cell.clean_key] = Job(clean, f"clean images through {defense}", len(cell.ids))
        for number, chunk in enumerate(cell.chunks, 1):
            if chunk.key in waits_for and chunk.key not in self.schedule.jobs:
                which = f" ({number}/{len(cell.chunks)})" if len(cell.chunks) > 1 else ""
                behind = f" behind {defense}" if chunk.aim.defense else ""
                self._add_chunk(cell, chunk, f"{short(cell.attack)} on {short(chunk.aim.model)}{behind}{which}")
        score = ScoreTask(specs, self._told(cell.chunks), cell.clean_key, cell.seed, cell.draws)
        label = f"{short(cell.attack)} {cell.threat.name} through {defense}"
        self.schedule.jobs[cell.key] = Job(score, label, len(cell.ids), tuple(waits_for), cell)

    def _told(self, chunks: tuple[Chunk, ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Keys and samples of chunks; of those that many cells share, the same object."""
        if chunks is not self._last[0]:
            self._last = chunks, tuple((chunk.key, chunk.ids) for chunk in chunks)
        return self._last[1]

    def _add_chunk(self, cell: Cell, chunk: Chunk, label: str) -> None:
        """Adds the job of a chunk, or one for each batch of it and one that joins them."""
        aim, size = chunk.aim, len(chunk.ids)
        whole = CraftTask(
            chunk.key_inputs,
            chunk.ids,
            full(cell.dataset),
            full(aim.model),
            full(cell.attack),
            aim.threat,
            full(aim.defense) if aim.defense else "",
            cell.seed,
            aim.draws,
            aim.precision,
        )
        if size <= self.batch_size:
            self.schedule.jobs[chunk.key] = Job(whole, label, size)
            return
        parts = tuple((start, min(start + self.batch_size, size)) for start in range(0, size, self.batch_size))
        names = {part: f"{chunk.key}.{part[0]}-{part[1]}" for part in parts if not self._has_part(chunk.key, part)}
        for part, name in names.items():
            which = f"{label}, images {part[0] + 1}–{part[1]}"
            self.schedule.jobs[name] = Job(dataclasses.replace(whole, part=part), which, part[1] - part[0])
        self.schedule.jobs[chunk.key] = Job(
            JoinTask(chunk.key_inputs, parts), f"{label}, joined", 0, tuple(names.values())
        )

    def _has_clean(self, key: str) -> bool:
        return self._once(key, lambda: self.store.read_record("clean", key) is not None)

    def _has_chunk(self, key: str) -> bool:
        return self._once(key, lambda: self.store.read_tensors(key) is not None)

    def _has_part(self, key: str, part: tuple[int, int]) -> bool:
        return self.rerun != "all" and self.store.read_tensors(key, part) is not None

    def _once(self, key: str, look: Callable[[], bool]) -> bool:
        """Whether an entry is there and checks out; each is read once."""
        if key not in self._stored:
            self._stored[key] = self.rerun != "all" and look()
        return self._stored[key]
