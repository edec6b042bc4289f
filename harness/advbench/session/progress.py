"""Progress of a matrix on stderr: a live board in a terminal, elsewhere a line for each finished cell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import ControlType, Segment, SegmentLines
from rich.table import Column
from rich.text import Text

from advbench.analysis import Summary
from advbench.evaluation.plan.cells import Cell
from advbench.evaluation.plan.tasks import Outcome
from advbench.evaluation.run.estimate import Estimate
from advbench.evaluation.run.schedule import Job, Schedule
from advbench.printable import one_line
from advbench.session.live_board import LiveBoard
from advbench.session.run_messages import duration

__all__ = ["MatrixProgress"]

_DRAWING_SHARE = 0.1
"""The share of one core's time that drawing the live view may take. A board of 100,000 cells is slow to draw."""

_LONGEST_PAUSE = 1.0
"""Seconds after which the view is drawn again at the latest."""

_ATTEMPTS = 3
"""How often a view is rendered at most while the terminal keeps changing its size."""


class MatrixProgress:
    """Shows the progress of a run and collects the summaries of its cells.

    Args:
        console: stderr.
        schedule: What is left to do.
        estimate: How long each job should take; the bar advances by it.
        done: The summaries of cells that have ended, by key; this object adds those of cells that end.
        cells: The cells of the plan, including the stored ones.
        more: How many cells the run has besides these.
        verbosity: -1 to show nothing; 1 to print a line for each finished cell in a terminal, too.
    """

    def __init__(
        self,
        console: Console,
        schedule: Schedule,
        estimate: Estimate,
        done: dict[str, Summary],
        cells: Sequence[Cell],
        *,
        more: int,
        verbosity: int,
    ) -> None:
        self.console = console
        self.quiet = verbosity < 0
        self.done = done
        self.total = len(cells) + more
        self.cells_done = self.total - sum(job.cell is not None for job in schedule.jobs.values())
        self.weights = {id(job): max(estimate.of_job[name], 1e-3) for name, job in schedule.jobs.items()}
        self.all_weight = sum(self.weights.values())
        self.done_weight = 0.0
        self.began = time.monotonic()
        self.steps: dict[int, TaskID] = {}
        self.bars = _make_bars(console)
        drawable = console.is_terminal and not console.is_dumb_terminal and console.file.isatty()
        in_terminal = drawable and verbosity >= 0
        self.board = LiveBoard(cells if in_terminal else (), done)
        self.cells_of_job = _cells_by_job(schedule) if in_terminal else {}
        self.view = _View(console, self._render)
        self.live = self._make_live() if in_terminal else None
        self.lines = verbosity > 0 or (verbosity == 0 and not in_terminal)

    def __enter__(self) -> MatrixProgress:
        if self.live is not None:
            self.overall = self.bars.add_task("all", total=self.all_weight, label="cells", left="")
            self._refresh(0.0)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def job_started(self, job: Job) -> None:
        """Shows a bar for the job."""
        if self.live is not None and id(job) not in self.steps:
            self.steps[id(job)] = self.bars.add_task("step", total=job.samples, label=one_line(job.label), left="")
            self.board.begin(self._cells_of(job))

    def job_advanced(self, job: Job, samples: int) -> None:
        """Advances the bar of the job, and the overall bar by the job's share."""
        if self.live is not None:
            self.bars.update(self.steps[id(job)], completed=samples)
            self._refresh(self.weights[id(job)] * samples / max(job.samples, 1))

    def job_waits(self, job: Job) -> None:
        """Removes the bar of a job that will be continued later."""
        self._remove_step(job)

    def job_ended(self, job: Job, outcome: Outcome) -> None:
        """Removes the bar of the job."""
        self.done_weight += self.weights[id(job)]
        self._remove_step(job)
        if outcome.batch_size is not None and not self.quiet:
            self._say(f"{job.label}: memory suffices for batches of {outcome.batch_size} images only")

    def _remove_step(self, job: Job) -> None:
        if self.live is not None:
            step = self.steps.pop(id(job), None)
            if step is not None:
                self.bars.remove_task(step)
                self.board.end(self._cells_of(job))
            self._refresh(0.0)

    def _cells_of(self, job: Job) -> list[str]:
        """The keys of the cells that a job computes or prepares."""
        return self.cells_of_job[id(job)] if job.cell is None else [job.cell.key]

    def cell_ended(self, cell: Cell, summary: Summary) -> None:
        """Stores the summary of the cell and prints its line."""
        self.done[cell.key] = summary
        self.cells_done += 1
        if self.live is not None:
            self._refresh(0.0)
        if self.lines or (self.live is not None and not summary.ok):
            self._print_line(cell, summary)

    def _print_line(self, cell: Cell, summary: Summary) -> None:
        width = len(str(self.total))
        line = Text(f"[{self.cells_done:>{width}}/{self.total}] {one_line(cell.label())}  ")
        if summary.ok:
            line.append(f"robust {100 * summary.measured['robust_accuracy']:.1f} %", style="bold")
            line.append(f"  clean {100 * summary.measured['clean_accuracy']:.1f} %", style="dim")
        elif summary.status == "skipped":
            line.append(one_line(f"skipped: {summary.error}"))
        else:
            line.append(one_line(f"ERR {summary.error}"), style="bold red")
        self._say(line)

    def _say(self, line: Text | str) -> None:
        if self.live is not None and self.view.size != self.console.size:
            self.live.refresh()  # else the line would be printed over a view that has moved
        self.console.print(line, soft_wrap=not self.console.is_terminal, markup=False)

    def _refresh(self, in_step: float) -> None:
        done = self.done_weight + in_step
        elapsed = time.monotonic() - self.began
        share = done / self.all_weight
        # At the beginning, the estimate is more reliable than the measured pace.
        left = self.all_weight - done if share < 0.02 else elapsed * (1 - share) / share
        label = f"cells {self.cells_done}/{self.total}"
        self.bars.update(self.overall, completed=done, label=label, left=f"{duration(left)} left")

    def _make_live(self) -> Live:
        return Live(
            get_renderable=self.view.draw,
            console=self.console,
            refresh_per_second=8,
            transient=True,
            vertical_overflow="crop",
        )

    def _render(self, width: int, height: int) -> RenderableType:
        """The board, and below it the overall bar and those of the first jobs that fit."""
        tasks = self.bars.tasks[: max(2, height // 4)]
        return Group(self.board.render(width, height - len(tasks) - 1), self.bars.make_tasks_table(tasks))


class _View:
    """The content of a live view, which stays in position when the terminal changes its size.

    Args:
        console: Where it is shown.
        render: Renders it for a width and a height.
    """

    def __init__(self, console: Console, render: Callable[[int, int], RenderableType]) -> None:
        self.console = console
        self.render = render
        self.size = console.size
        self.lengths: list[int] = []
        self._drawn: SegmentLines | None = None
        self._valid_until = 0.0

    def draw(self) -> SegmentLines:
        """The current view.

        A terminal that became narrower has wrapped the lines of the previous view, and rich's live display would leave
        some of them on the screen. The additional lines are erased first. If the view was drawn a short time ago and
        takes long to draw, the previous drawing is returned.
        """
        began = time.thread_time()  # CPU time, since more wall-clock time passes on a busy machine
        if self._drawn is not None and self.size == self.console.size and time.monotonic() < self._valid_until:
            return self._drawn
        for _ in range(_ATTEMPTS):
            self.size = self.console.size
            width, height = self.size
            lines = self.console.render_lines(self.render(width, height), pad=False)
            if self.size == self.console.size:  # else too many or too few lines would be erased
                break
        lines = [_without_trailing_blanks(line) for line in lines]
        wrapped = sum((length - 1) // width for length in self.lengths if length)
        if wrapped:
            erase = (ControlType.ERASE_IN_LINE, 2)
            self.console.control(
                Control(ControlType.CARRIAGE_RETURN, erase, *[(ControlType.CURSOR_UP, 1), erase] * wrapped)
            )
        self.lengths = [Segment.get_line_length(line) for line in lines]
        self._drawn = SegmentLines(lines, new_lines=True)
        self._valid_until = time.monotonic() + min((time.thread_time() - began) / _DRAWING_SHARE, _LONGEST_PAUSE)
        return self._drawn


def _without_trailing_blanks(line: list[Segment]) -> list[Segment]:
    """A line without trailing blanks."""
    while line and not line[-1].text.strip():
        line = line[:-1]
    return [*line[:-1], Segment(line[-1].text.rstrip(), line[-1].style)] if line else []


def _cells_by_job(schedule: Schedule) -> dict[int, list[str]]:
    """The keys of the cells that need each job that is not a cell itself, by the job's id."""
    cells: dict[int, list[str]] = {id(job): [] for job in schedule.jobs.values() if job.cell is None}
    for job in schedule.jobs.values():
        if job.cell is not None:
            chunks = {chunk.key for chunk in job.cell.chunks}.intersection(job.waits_for)
            for name in {name for chunk in chunks for name in _with_blockers(schedule, chunk)}:
                cells[id(schedule.jobs[name])].append(job.cell.key)
    return cells


def _with_blockers(schedule: Schedule, name: str) -> set[str]:
    """A job and all that it waits for, by their names."""
    return {name}.union(*(_with_blockers(schedule, blocker) for blocker in schedule.jobs[name].waits_for))


def _make_bars(console: Console) -> Progress:
    label = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    bar = [BarColumn(bar_width=20 if console.width >= 72 else 8)] if console.width >= 60 else []
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.fields[label]}", markup=False, table_column=label),
        *bar,
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True, min_width=11, justify="right")),
        console=console,
        auto_refresh=False,
        expand=True,
    )
