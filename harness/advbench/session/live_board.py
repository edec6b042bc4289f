"""The leaderboard that a terminal shows during a run, filled in as cells finish."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from advbench.analysis import Summary
from advbench.evaluation.plan.cells import Cell
from advbench.printable import printable
from advbench.report.sweeps import terms_of, with_sweep_names
from advbench.specs import full_spec

__all__ = ["LiveBoard", "window"]

PENDING, WORKED_ON, SKIPPED, FAILED = "·", "…", "—", "ERR"

_NARROWEST, _WIDEST = 5, 14
"""The width of an attack's column: at least that of ``100.0``; longer headings are cut."""

_COLUMN_GAP = 3
"""Blanks between two columns."""

_OTHER_LINES = 4
"""Lines of a board besides its headings and rows: title, rule, the count of what is left out, and a blank line."""


class Column(NamedTuple):
    """An attack's full spec under a threat, and the short name of the surrogate if the run has several."""

    threat: str
    attack: str
    surrogate: str = ""


class Position(NamedTuple):
    """Board, row and column of a cell."""

    board: tuple[str, str]
    row: str
    column: Column


class LiveBoard:
    """A table of the current dataset and model; shows the rows and columns that fit.

    Args:
        cells: The cells of the plan.
        done: The summaries of cells that have ended, by key; the caller adds to it.
    """

    def __init__(self, cells: Sequence[Cell], done: Mapping[str, Summary]) -> None:
        self._done = done
        self._working: dict[str, int] = {}
        self._boards: dict[tuple[str, str], _Grid] = {}
        self._positions: dict[str, Position] = {}
        # Plans are large: equal specs and columns are computed and stored once.
        full, column_of = functools.cache(full_spec), functools.cache(Column)
        defenses = {full(cell.defense): cell.short_names()["defense"] for cell in cells}
        named = with_sweep_names({"defense": spec, "short": {"defense": name}} for spec, name in defenses.items())
        names = {one["defense"]: one["short"]["defense"] for one in named}
        for cell in cells:
            shown = cell.short_names()
            column = column_of(cell.threat.name, full(cell.attack), shown.get("surrogate", ""))
            board = printable(shown["dataset"]), printable(shown["model"])
            position = Position(board, printable(names[full(cell.defense)]), column)
            self._boards.setdefault(position.board, _Grid()).cells[position.row, column] = cell
            if cell.key:
                self._positions[cell.key] = position
        left = (position for key, position in self._positions.items() if key not in done)
        self._shown = next(left, next(iter(self._positions.values()), None))
        self._view: tuple[object, range, range] = (None, range(0), range(0))

    def begin(self, keys: Iterable[str]) -> None:
        """Marks cells as in work and shows the board of the first of them."""
        for index, key in enumerate(keys):
            self._working[key] = self._working.get(key, 0) + 1
            if index == 0:
                self._shown = self._positions.get(key, self._shown)

    def end(self, keys: Iterable[str]) -> None:
        """Marks cells as no longer in work."""
        for key in keys:
            left = self._working.pop(key, 0) - 1
            if left > 0:
                self._working[key] = left

    def render(self, width: int, height: int) -> RenderableType:
        """The board, at most this wide and high; empty if fewer than three rows fit."""
        position = self._shown
        if position is None:
            return Group()
        grid = self._boards[position.board]
        lines = height - _OTHER_LINES - grid.heading_lines
        if lines < min(3, len(grid.rows)):
            return Group()
        names = min(max(len("defense"), *map(len, grid.rows)), max(16, width // 3))
        rows, columns = self._in_view(position, grid, width - names, lines)
        left_out = len(grid.rows) - len(rows), len(grid.columns) - len(columns)
        return Group(self._title(position), self._table(position, grid, rows, columns, names), _more(*left_out), Text())

    def _in_view(self, position: Position, grid: _Grid, width: int, height: int) -> tuple[range, range]:
        """The rows and columns to show: those of last time as long as they include the current cell."""
        board, rows, columns = self._view
        before = (rows.start, columns.start) if board == position.board else (0, 0)
        rows = window([1] * len(grid.rows), grid.rows.index(position.row), before[0], height)
        sizes = [grid.size(column) + _COLUMN_GAP for column in grid.columns]
        columns = window(sizes, grid.columns.index(position.column), before[1], width)
        self._view = position.board, rows, columns
        return rows, columns

    def _title(self, position: Position) -> Text:
        title = Text(" · ".join(position.board), style="bold", no_wrap=True, overflow="ellipsis")
        number = list(self._boards).index(position.board) + 1
        which = f"  board {number} of {len(self._boards)}" if len(self._boards) > 1 else ""
        return title.append(f"  robust accuracy in %{which}", style="not bold dim")

    def _table(self, position: Position, grid: _Grid, rows: range, columns: range, names: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="")
        below = "\n" * (grid.heading_lines - 1)
        table.add_column(Text(f"defense{below}", style="bold"), width=names, no_wrap=True, overflow="ellipsis")
        shown = [grid.columns[index] for index in columns]
        for column in shown:
            heading = grid.heading(column)
            table.add_column(heading, width=grid.size(column), justify="right", no_wrap=True, overflow="ellipsis")
        for row in (grid.rows[index] for index in rows):
            cells = [self._cell(grid.cells.get((row, column))) for column in shown]
            table.add_row(Text(_cut(row, names), style="cyan" if row == position.row else ""), *cells)
        return table

    def _cell(self, cell: Cell | None) -> Text:
        summary = None if cell is None else self._done.get(cell.key)
        if cell is None or cell.skipped or (summary is not None and summary.status == "skipped"):
            return Text(SKIPPED, style="dim")
        if cell.failed or (summary is not None and not summary.ok):
            return Text(FAILED, style="bold red")
        if summary is not None:
            return Text(f"{100 * summary.measured['robust_accuracy']:.1f}", style="bold")
        return Text(WORKED_ON, style="bold cyan") if self._working.get(cell.key) else Text(PENDING, style="dim")


class _Grid:
    """The cells of one dataset and model, by row and column."""

    def __init__(self) -> None:
        self.cells: dict[tuple[str, Column], Cell] = {}

    @functools.cached_property
    def rows(self) -> list[str]:
        """The defenses."""
        return list(dict.fromkeys(row for row, _ in self.cells))

    @functools.cached_property
    def columns(self) -> list[Column]:
        """The attacks under each threat, in the order of work."""
        return list(dict.fromkeys(column for _, column in self.cells))

    @functools.cached_property
    def headings(self) -> dict[Column, list[str]]:
        """The lines of each heading: name, threat and surrogate if there are several, parameters that differ."""
        several = len({column.threat for column in self.columns}) > 1
        terms = {column.attack: terms_of(column.attack)[0] for column in self.columns}
        values: dict[tuple[str, str], set[object]] = {}
        for name in {term.name for term in terms.values()}:
            namesakes = [dict(term.items) for term in terms.values() if term.name == name]
            for key in {key for items in namesakes for key in items}:
                values[name, key] = {items.get(key) for items in namesakes}
        aliases = {spec: name for axis, spec, name in next(iter(self.cells.values())).aliases if axis == "attack"}
        headings = {}
        for column in self.columns:
            term = terms[column.attack]
            differing = [f"{key}={value}" for key, (value,) in term.items if len(values[term.name, key]) > 1]
            alias = aliases.get(column.attack)
            names = [alias] if alias else [term.name, *differing]
            surrogate = [f"on {column.surrogate}"] if column.surrogate else []
            lines = (names[0], *([column.threat] if several else []), *surrogate, *names[1:])
            headings[column] = [printable(line) for line in lines]
        return headings

    @functools.cached_property
    def heading_lines(self) -> int:
        """The number of lines of the tallest heading."""
        return max(map(len, self.headings.values()))

    def size(self, column: Column) -> int:
        """The width of a column."""
        return min(_WIDEST, max(_NARROWEST, *map(len, self.headings[column])))

    def heading(self, column: Column) -> Text:
        """The heading of a column, padded to the height of the tallest; long lines are cut."""
        name, *details = (_cut(line, _WIDEST) for line in self.headings[column])
        below = [*details, *[""] * (self.heading_lines - 1 - len(details))]
        return Text(name, style="bold").append("".join(f"\n{line}" for line in below), style="not bold dim")


def window(sizes: Sequence[int], index: int, before: int, available: int) -> range:
    """The items of a sequence to show where not all fit.

    Args:
        sizes: How much space each item takes.
        index: The item that must be shown.
        before: The first item that was shown last time; the window moves only if ``index`` would not be shown.
        available: How much space there is; at least one item is shown, whatever its size.
    """
    start = before
    if not start <= index or sum(sizes[start : index + 1]) > available:
        start = index
        half = available // 2
        while start > 0 and sum(sizes[start - 1 : index]) <= half and sum(sizes[start - 1 : index + 1]) <= available:
            start -= 1
    end = start + 1
    while end < len(sizes) and sum(sizes[start : end + 1]) <= available:
        end += 1
    while start > 0 and sum(sizes[start - 1 : end]) <= available:
        start -= 1
    return range(start, max(end, index + 1))


def _cut(text: str, width: int) -> str:
    """Cuts text in the middle, since the specs of a sweep differ at the end."""
    end = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - end]}…{text[-end:]}"


def _more(rows: int, columns: int) -> Text:
    """The counts of rows and columns that do not fit."""
    counts = ((columns, "attack"), (rows, "defense"))
    parts = [f"+{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count]
    return Text(", ".join(parts), style="dim")
