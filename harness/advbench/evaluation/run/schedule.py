"""Finds out which cells of a plan are stored, and makes jobs for the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from advbench.analysis import Summary, summarise
from advbench.evaluation.plan.build import Plan
from advbench.evaluation.plan.cells import Cell, Chunk, DefenseFit, full, short
from advbench.evaluation.plan.certificates import Certification
from advbench.evaluation.plan.tasks import (
    CertifyTask,
    CleanTask,
    CraftTask,
    DefenseFitTask,
    FitTask,
    JoinTask,
    ScoreTask,
    Task,
    batch_step,
)
from advbench.store import Store

__all__ = ["Job", "Rerun", "Schedule", "build_schedule", "read_summary"]

Rerun = Literal["none", "failed", "all"]


@dataclasses.dataclass(slots=True)
class Job:
    """A task and the jobs that it waits for.

    Attributes:
        task: What to do.
        label: What progress displays call it.
        waits_for: Names of the jobs that must end first.
        cell: The cell that it finishes, or None.
        has_result: Whether its result is one of the run although it finishes no cell, such as certificates.
    """

    task: Task
    label: str
    waits_for: tuple[str, ...] = ()
    cell: Cell | None = None
    has_result: bool = False

    @property
    def samples(self) -> int:
        """How many samples it processes."""
        return self.task.samples


@dataclasses.dataclass
class Schedule:
    """The stored results of a plan, and the jobs that are left.

    Attributes:
        cached: Finished cells, by key, with the failed ones if they are not tried again.
        jobs: The jobs that are left, by name, each after those that it waits for.
    """

    cached: dict[str, Summary]
    jobs: dict[str, Job]


def build_schedule(plan: Plan, store: Store, rerun: Rerun, batch_size: int) -> Schedule:
    """Makes the schedule of a plan.

    Args:
        plan: The cells.
        store: Where results may be stored.
        rerun: ``none`` uses all stored results, failures included; ``failed`` (the command's default) tries stored
            failures again; ``all`` computes everything again.
        batch_size: How many images a component gets at once. Larger chunks are split into parts of this size, so that
            workers share them, and a killed run loses at most a part.
    """
    builder = _ScheduleBuilder(store, rerun, batch_size)
    for cell in plan.cells:
        if cell.key:
            builder.add(cell)
    for certification in plan.certifications:
        builder.add_certificates(certification)
    return builder.schedule


def read_summary(store: Store, cell: Cell) -> Summary | None:
    """The stored result of a cell, without its samples; None if there is none."""
    record = store.read_record("cells", cell.key, arrays=True)
    return None if record is None else summarise(record, cell.norm if cell.minimal else None)


class _ScheduleBuilder:
    def __init__(self, store: Store, rerun: Rerun, batch_size: int) -> None:
        self.store = store
        self.rerun = rerun
        self.batch_size = batch_size
        self.schedule = Schedule({}, {})
        self._stored: dict[str, bool] = {}
        self._last: tuple[tuple[Chunk, ...], tuple[tuple[str, tuple[int, ...]], ...]] = ((), ())

    def add(self, cell: Cell) -> None:
        """Adds a cell's stored result, or its job and those that it waits for, unless their results are stored."""
        summary = None if self.rerun == "all" else read_summary(self.store, cell)
        if summary is not None and (summary.status != "error" or self.rerun == "none"):
            self.schedule.cached[cell.key] = summary
            return
        specs, defense = cell.stored_specs(), short(cell.defense)
        waits_for = [chunk.key for chunk in cell.chunks if not self._has_chunk(chunk.key)]
        if not self._has_clean(cell.clean_key):
            waits_for.append(cell.clean_key)
        fits = self._add_defense_fits(cell.defense_fits)
        waits_for += fits
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
            self.schedule.jobs[cell.clean_key] = Job(clean, f"clean images through {defense}", fits)
        for number, chunk in enumerate(cell.chunks, 1):
            if chunk.key in waits_for and chunk.key not in self.schedule.jobs:
                part = f" ({number}/{len(cell.chunks)})" if len(cell.chunks) > 1 else ""
                behind = f" behind {defense}" if chunk.target.defense else ""
                label = f"{short(cell.attack)} on {short(chunk.target.model)}{behind}{part}"
                self._add_chunk(cell, chunk, label, fits if chunk.target.defense else ())
        score = ScoreTask(specs, self._keys_and_ids(cell.chunks), cell.clean_key, cell.seed, cell.draws)
        label = f"{short(cell.attack)} {cell.threat_label()} through {defense}"
        self.schedule.jobs[cell.key] = Job(score, label, tuple(waits_for), cell)

    def add_certificates(self, certification: Certification) -> None:
        """Adds a job for each piece of certificates that is not stored."""
        specs, pieces = certification.specs(), certification.pieces
        waits_for: tuple[str, ...] = ()
        for number, piece in enumerate(pieces, 1):
            task = CertifyTask(piece.key_inputs, piece.ids, **specs, seed=certification.seed)
            stored = None if self.rerun == "all" else self.store.read_record("certificates", piece.key)
            if stored is not None and (stored.get("status") == "ok" or self.rerun == "none"):
                continue
            part = f" ({number}/{len(pieces)})" if len(pieces) > 1 else ""
            waits_for = waits_for or self._add_defense_fits(certification.fits)
            self.schedule.jobs[piece.key] = Job(task, f"{certification.label()}{part}", waits_for, has_result=True)

    def _keys_and_ids(self, chunks: tuple[Chunk, ...]) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Keys and samples of chunks; cells that share chunks share one object, which saves memory."""
        if chunks is not self._last[0]:
            self._last = chunks, tuple((chunk.key, chunk.ids) for chunk in chunks)
        return self._last[1]

    def _add_chunk(self, cell: Cell, chunk: Chunk, label: str, defense_fits: tuple[str, ...]) -> None:
        """Adds the job of a chunk, or one for each batch of it and one that joins them.

        Args:
            cell: A cell that needs the chunk.
            chunk: The chunk.
            label: What progress displays call it.
            defense_fits: The names of the jobs that fit the attacked defense.
        """
        target, size = chunk.target, len(chunk.ids)
        whole = CraftTask(
            chunk.key_inputs,
            chunk.ids,
            full(cell.dataset),
            full(target.model),
            full(cell.attack),
            target.threat,
            full(target.defense) if target.defense else "",
            cell.seed,
            target.draws,
            target.precision,
            group_size=cell.group_size,
            max_queries=target.max_queries,
            artefact=chunk.artefact,
        )
        step = batch_step(self.batch_size, cell.group_size)
        if size <= step:
            self.schedule.jobs[chunk.key] = Job(whole, label, self._add_fits(chunk, whole, defense_fits))
            return
        parts = tuple((start, min(start + step, size)) for start in range(0, size, step))
        names = {part: f"{chunk.key}.{part[0]}-{part[1]}" for part in parts if not self._has_part(chunk.key, part)}
        fit = self._add_fits(chunk, whole, defense_fits) if names else ()
        for part, name in names.items():
            part_label = f"{label}, images {part[0] + 1}–{part[1]}"
            self.schedule.jobs[name] = Job(dataclasses.replace(whole, part=part), part_label, fit)
        self.schedule.jobs[chunk.key] = Job(
            JoinTask(chunk.key_inputs, parts), f"{label}, joined", tuple(names.values())
        )

    def _add_fits(self, chunk: Chunk, task: CraftTask, defense_fits: tuple[str, ...]) -> tuple[str, ...]:
        """Adds the fit of a chunk's attack, unless it is stored; returns the names of the jobs to wait for."""
        fit, target = chunk.fit, chunk.target
        if fit is None or self._has_artefact(fit.key):
            return defense_fits
        if fit.key not in self.schedule.jobs:
            specs = (full(fit.dataset), task.model, full(fit.attack), task.threat, task.defense)
            fit_task = FitTask(fit.key_inputs, fit.ids, *specs, task.seed, task.draws, task.precision)
            behind = f" behind {short(target.defense)}" if target.defense else ""
            label = f"{short(fit.attack)} fitted on {short(target.model)}{behind}"
            self.schedule.jobs[fit.key] = Job(fit_task, label, defense_fits)
        return (*defense_fits, fit.key)

    def _add_defense_fits(self, fits: tuple[DefenseFit, ...]) -> tuple[str, ...]:
        """Adds the fits of a defense that are not stored; returns the names of the jobs to wait for."""
        names: tuple[str, ...] = ()
        for fit in fits:
            if self._has_artefact(fit.key):
                continue
            if fit.key not in self.schedule.jobs:
                specs = (full(fit.dataset), full(fit.model), full(fit.defense))
                task = DefenseFitTask(fit.key_inputs, fit.ids, *specs, fit.part, fit.key_inputs["seed"])
                label = f"{short(fit.defense.parts[fit.part])} fitted in front of {short(fit.model)}"
                self.schedule.jobs[fit.key] = Job(task, label, names)
            names += (fit.key,)
        return names

    def _has_artefact(self, key: str) -> bool:
        return self._check_once(key, lambda: self.store.read_artefact(key) is not None)

    def _has_clean(self, key: str) -> bool:
        return self._check_once(key, lambda: self.store.read_record("clean", key) is not None)

    def _has_chunk(self, key: str) -> bool:
        return self._check_once(key, lambda: self.store.read_tensors(key) is not None)

    def _has_part(self, key: str, part: tuple[int, int]) -> bool:
        return self.rerun != "all" and self.store.read_tensors(key, part) is not None

    def _check_once(self, key: str, is_stored: Callable[[], bool]) -> bool:
        """Whether an entry is stored and undamaged; each entry is read once."""
        if key not in self._stored:
            self._stored[key] = self.rerun != "all" and is_stored()
        return self._stored[key]
