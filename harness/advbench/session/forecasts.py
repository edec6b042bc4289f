"""How long several runs of a command take, reported before the first of them starts."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from advbench.errors import UsageError
from advbench.evaluation.run.estimate import estimate
from advbench.evaluation.run.pool import WorkerPool
from advbench.evaluation.run.schedule import Job, Schedule
from advbench.evaluation.work.workspace import Environment, set_workspace
from advbench.process.memory import memory_limit
from advbench.session.run_messages import duration, forecast, memory_notes, nothing_to_do
from advbench.session.session import Session

if TYPE_CHECKING:
    from advbench.api import LabelledImages
    from advbench.session.run import MatrixRun

__all__ = ["announce_total", "open_workers", "print_dry_run", "worker_threads"]


@dataclasses.dataclass(frozen=True)
class _Forecast:
    """The forecast of one run.

    Attributes:
        text: It in words, or why there is none.
        seconds: None if there is none.
    """

    text: str
    seconds: float | None


def print_dry_run(session: Session, runs: Sequence[MatrixRun], console: Console) -> None:
    """Lists the cells of runs, and reports how long the runs would take. Nothing is downloaded or stored."""
    together = _forecasts_before(session, runs)
    for number, run in enumerate(runs):
        run.announce()
        run.print_cells(console)
        if not session.quiet:
            (own,) = together[number : number + 1] or _forecasts(session, runs)
            session.say(own.text)
    _report_total(session, together)


def announce_total(session: Session, runs: Sequence[MatrixRun]) -> None:
    """Reports how long several runs will take together, before the first one starts.

    What is measured for this is not measured again when the runs start.
    """
    _report_total(session, _forecasts_before(session, runs))


def _forecasts_before(session: Session, runs: Sequence[MatrixRun]) -> list[_Forecast]:
    """The forecasts of several runs; none for a single run, which has its own when it starts."""
    if len(runs) < 2 or session.quiet:
        return []
    for run in runs:
        run.update_schedule()
    forecasts = _forecasts(session, runs)
    for run in runs:
        run.schedule = Schedule({}, {})  # frees memory: it is built again when the run starts
    return forecasts


def _report_total(session: Session, forecasts: Sequence[_Forecast]) -> None:
    if forecasts:
        unknown = sum(one.seconds is None for one in forecasts)
        known = sum(one.seconds for one in forecasts if one.seconds is not None)
        if unknown == len(forecasts):
            session.say(f"no forecast for any of the {unknown} runs")
            return
        without = f", without {unknown} of them that have no forecast" if unknown else ""
        session.say(f"all {len(forecasts)} runs will take {'about ' if known >= 1 else ''}{duration(known)}{without}")


def _forecasts(session: Session, runs: Sequence[MatrixRun]) -> list[_Forecast]:
    """Forecasts runs that follow one another, and gives each run its estimate.

    A job that several runs need counts for the first of them. Components are timed once for all runs.

    Args:
        session: What the runs share.
        runs: The runs, each with its schedule.
    """
    jobs: dict[str, Job] = {}
    images: dict[str, LabelledImages] = {}
    forecasts: dict[int, _Forecast] = {}
    own_jobs: dict[int, list[str]] = {}
    for number, run in enumerate(runs):
        if not run.schedule.jobs:
            forecasts[number] = _Forecast(nothing_to_do(run.plan, run.schedule, session.store.root), 0.0)
            continue
        try:
            images |= run.load_datasets(download=False)
        except UsageError as error:
            forecasts[number] = _Forecast(f"no forecast: {error}", None)
            continue
        own_jobs[number] = [name for name in run.schedule.jobs if name not in jobs]
        jobs |= run.schedule.jobs
    if jobs:
        with tempfile.TemporaryDirectory(prefix="advbench-") as folder:
            environment = dataclasses.replace(session.environment, store=Path(folder))
            with open_workers(session, jobs.values(), environment, images) as workers:
                expected, slots = estimate(Schedule({}, jobs), workers), workers.slots()
                threads = worker_threads(workers)
        for number, names in own_jobs.items():
            runs[number].expected, own = expected, expected.of(names)
            needs = memory_notes(own, runs[number].plan, session.environment.batch_size)
            text = "; ".join([forecast(own, slots, session.environment.device, threads), *needs])
            forecasts[number] = _Forecast(text, own.seconds / slots)
    return [forecasts[number] for number in range(len(runs))]


@contextlib.contextmanager
def open_workers(
    session: Session, jobs: Iterable[Job], environment: Environment, images: Mapping[str, LabelledImages]
) -> Iterator[WorkerPool]:
    """Opens the workers of some jobs, with these settings; they end with the block."""
    set_workspace(environment, session.registry, dict(images))
    held = environment.memory if session.executor.in_process else None
    pool = WorkerPool(session.executor, session.options.jobs, session.gpus, environment, jobs, live=session.live)
    with memory_limit(held), pool as workers:
        yield workers


def worker_threads(workers: WorkerPool) -> object:
    """How many CPU threads each worker uses."""
    import torch  # here, since only runs need it

    return workers.worker_settings.get("threads") or workers.environment.threads or torch.get_num_threads()
