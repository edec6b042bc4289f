"""Progress of a matrix on stderr: live bars in a terminal, one plain line a finished cell elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from advbench.analysis import Summary
from advbench.evaluation import Cell, Estimate, Job, Outcome, Todo

__all__ = ["MatrixProgress", "in_words"]


class MatrixProgress:
    """Watches a run.

    Args:
        console: stderr.
        todo: What is left to do.
        estimate: How long each job should take; the bar advances by it.
        done: The cells that have ended, by key; this adds those that end.
        total: Number of cells of the plan, the stored ones included.
        quiet: Whether to show nothing.
    """

    def __init__(
        self,
        console: Console,
        todo: Todo,
        estimate: Estimate,
        done: dict[str, Summary],
        total: int,
        *,
        quiet: bool,
    ) -> None:
        self.console = console
        self.done = done
        self.total = total
        self.quiet = quiet
        self.cells_done = total - sum(job.cell is not None for job in todo.jobs.values())
        self.weights = {id(job): max(estimate.of_job[name], 1e-3) for name, job in todo.jobs.items()}
        self.all_weight = sum(self.weights.values())
        self.done_weight = 0.0
        self.began = time.monotonic()
        self.steps: dict[int, TaskID] = {}
        self.live = self._make_live() if console.is_terminal and not quiet else None

    def __enter__(self) -> MatrixProgress:
        if self.live is not None:
            self.live.start()
            self.overall = self.live.add_task("all", total=self.all_weight, label="cells", left="")
            self._refresh(0.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def job_started(self, job: Job) -> None:
        """Shows the step."""
        if self.live is not None and id(job) not in self.steps:
            self.steps[id(job)] = self.live.add_task("step", total=job.samples, label=job.label, left="")

    def job_advanced(self, job: Job, samples: int) -> None:
        """Moves the step's bar, and the overall one by the step's share."""
        if self.live is not None:
            self.live.update(self.steps[id(job)], completed=samples)
            self._refresh(self.weights[id(job)] * samples / max(job.samples, 1))

    def job_ended(self, job: Job, outcome: Outcome) -> None:
        """Takes the step away."""
        del outcome
        self.done_weight += self.weights[id(job)]
        if self.live is not None:
            step = self.steps.pop(id(job), None)
            if step is not None:
                self.live.remove_task(step)
            self._refresh(0.0)

    def cell_ended(self, cell: Cell, summary: Summary) -> None:
        """Keeps what the cell came to and prints its line."""
        self.done[cell.key] = summary
        self.cells_done += 1
        if self.quiet:
            return
        width = len(str(self.total))
        line = Text(f"[{self.cells_done:>{width}}/{self.total}] {cell.label()}  ")
        if summary.ok:
            line.append(f"robust {100 * summary.measured['robust_accuracy']:.1f} %", style="bold")
            line.append(f"  clean {100 * summary.measured['clean_accuracy']:.1f} %", style="dim")
        else:
            line.append(f"ERR {summary.error}", style="bold red")
        self.console.print(line, soft_wrap=True)
        if self.live is not None:
            self._refresh(0.0)

    def _refresh(self, in_step: float) -> None:
        assert self.live is not None
        done = self.done_weight + in_step
        elapsed = time.monotonic() - self.began
        share = done / self.all_weight
        # Early on, the measured pace says less than the estimate.
        left = self.all_weight - done if share < 0.02 else elapsed * (1 - share) / share
        label = f"cells {self.cells_done}/{self.total}"
        self.live.update(self.overall, completed=done, label=label, left=f"{in_words(left)} left")

    def _make_live(self) -> Progress:
        label = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[label]}", markup=False, table_column=label),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[left]}", table_column=Column(no_wrap=True, min_width=14)),
            console=self.console,
            transient=True,
            expand=True,
        )


def in_words(seconds: float) -> str:
    """A duration for people: ``40 s``, ``3 min``, ``2.5 h``."""
    if seconds < 1:
        return "under 1 s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
