"""The matrix as it fills in: what a terminal shows while a run goes on."""

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
from advbench.report.sweeps import terms_of, with_sweep_names
from advbench.specs import full_spec, short_spec

__all__ = ["LiveBoard", "window"]

PENDING, WORKED_ON, SKIPPED, FAILED = "·", "…", "—", "ERR"

_NARROWEST, _WIDEST = 5, 14
"""An attack's column: from that of ``100.0`` to where headings are cut."""

_BETWEEN = 3
"""Blanks between two columns."""

_AROUND = 4
"""Lines of a board beside its headings and rows: title, rule, what is left out, and a blank one."""


class Column(NamedTuple):
    """An attack's full spec under a threat."""

    threat: str
    attack: str


class Place(NamedTuple):
    """Where a cell is: on which board, and where there."""

    board: tuple[str, str]
    row: str
    column: Column


class LiveBoard:
    """A table of the dataset and model that are worked on, of which it shows what fits.

    Args:
        cells: The plan's.
        done: The cells that have ended, by key; others add to it.
    """

    def __init__(self, cells: Sequence[Cell], done: Mapping[str, Summary]) -> None:
        self._done = done
        self._working: dict[str, int] = {}
        self._boards: dict[tuple[str, str], _Grid] = {}
        self._places: dict[str, Place] = {}
        # Of many cells, what is the same is kept once.
        short, full, column_of = functools.cache(short_spec), functools.cache(full_spec), functools.cache(Column)
        defenses = {full(cell.defense): short(cell.defense) for cell in cells}
        told = with_sweep_names({"defense": spec, "short": {"defense": name}} for spec, name in defenses.items())
        names = {one["defense"]: one["short"]["defense"] for one in told}
        for cell in cells:
            column = column_of(cell.threat.name, full(cell.attack))
            place = Place((short(cell.dataset), short(cell.model)), names[full(cell.defense)], column)
            self._boards.setdefault(place.board, _Grid()).cells[place.row, column] = cell
            if cell.key:
                self._places[cell.key] = place
        left = (place for key, place in self._places.items() if key not in done)
        self._shown = next(left, next(iter(self._places.values()), None))
        self._view: tuple[object, range, range] = (None, range(0), range(0))

    def begin(self, keys: Iterable[str]) -> None:
        """Work on these cells has begun; the board goes where the first of them is."""
        for at, key in enumerate(keys):
            self._working[key] = self._working.get(key, 0) + 1
            if at == 0:
                self._shown = self._places.get(key, self._shown)

    def end(self, keys: Iterable[str]) -> None:
        """Work on these cells has ended, or pauses."""
        for key in keys:
            left = self._working.pop(key, 0) - 1
            if left > 0:
                self._working[key] = left

    def render(self, width: int, height: int) -> RenderableType:
        """The board within so many columns and lines; nothing where there is no room for three rows."""
        place = self._shown
        if place is None:
            return Group()
        grid = self._boards[place.board]
        room = height - _AROUND - grid.heading_lines
        if room < min(3, len(grid.rows)):
            return Group()
        names = min(max(len("defense"), *map(len, grid.rows)), max(16, width // 3))
        rows, columns = self._in_view(place, grid, width - names, room)
        left_out = len(grid.rows) - len(rows), len(grid.columns) - len(columns)
        return Group(self._title(place), self._table(place, grid, rows, columns, names), _more(*left_out), Text())

    def _in_view(self, place: Place, grid: _Grid, width: int, height: int) -> tuple[range, range]:
        """The rows and columns to show: as long as work goes on among them, the same as last time."""
        board, rows, columns = self._view
        before = (rows.start, columns.start) if board == place.board else (0, 0)
        rows = window([1] * len(grid.rows), grid.rows.index(place.row), before[0], height)
        sizes = [grid.size(column) + _BETWEEN for column in grid.columns]
        columns = window(sizes, grid.columns.index(place.column), before[1], width)
        self._view = place.board, rows, columns
        return rows, columns

    def _title(self, place: Place) -> Text:
        title = Text(" · ".join(place.board), style="bold", no_wrap=True, overflow="ellipsis")
        number = list(self._boards).index(place.board) + 1
        which = f"  board {number} of {len(self._boards)}" if len(self._boards) > 1 else ""
        return title.append(f"  robust accuracy in %{which}", style="not bold dim")

    def _table(self, place: Place, grid: _Grid, rows: range, columns: range, names: int) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="")
        below = "\n" * (grid.heading_lines - 1)
        table.add_column(Text(f"defense{below}", style="bold"), width=names, no_wrap=True, overflow="ellipsis")
        shown = [grid.columns[at] for at in columns]
        for column in shown:
            heading = grid.heading(column)
            table.add_column(heading, width=grid.size(column), justify="right", no_wrap=True, overflow="ellipsis")
        for row in (grid.rows[at] for at in rows):
            cells = [self._cell(grid.cells.get((row, column))) for column in shown]
            table.add_row(Text(_cut(row, names), style="cyan" if row == place.row else ""), *cells)
        return table

    def _cell(self, cell: Cell | None) -> Text:
        if cell is None or cell.skipped:
            return Text(SKIPPED, style="dim")
        summary = self._done.get(cell.key)
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
        """The attacks, each under every threat, in the order of work."""
        return list(dict.fromkeys(column for _, column in self.cells))

    @functools.cached_property
    def headings(self) -> dict[Column, list[str]]:
        """The lines of each heading: name, threat where there are several, and what tells it from its namesakes."""
        several = len({column.threat for column in self.columns}) > 1
        terms = {column.attack: terms_of(column.attack)[0] for column in self.columns}
        values: dict[tuple[str, str], set[object]] = {}
        for name in {term.name for term in terms.values()}:
            namesakes = [dict(term.items) for term in terms.values() if term.name == name]
            for key in {key for items in namesakes for key in items}:
                values[name, key] = {items.get(key) for items in namesakes}
        headings = {}
        for column in self.columns:
            term = terms[column.attack]
            telling = [f"{key}={value}" for key, (value,) in term.items if len(values[term.name, key]) > 1]
            headings[column] = [term.name, *([column.threat] if several else []), *telling]
        return headings

    @functools.cached_property
    def heading_lines(self) -> int:
        """How many lines the tallest heading has."""
        return max(map(len, self.headings.values()))

    def size(self, column: Column) -> int:
        """How wide a column is."""
        return min(_WIDEST, max(_NARROWEST, *map(len, self.headings[column])))

    def heading(self, column: Column) -> Text:
        """A column's heading, as tall as all, each line cut to the column."""
        name, *details = (_cut(line, _WIDEST) for line in self.headings[column])
        below = [*details, *[""] * (self.heading_lines - 1 - len(details))]
        return Text(name, style="bold").append("".join(f"\n{line}" for line in below), style="not bold dim")


def window(sizes: Sequence[int], at: int, before: int, room: int) -> range:
    """The items to show of a row of them.

    Args:
        sizes: How much room each takes.
        at: The one that must be seen.
        before: The first that was shown last time, which stays so as long as the one that must be seen is.
        room: How much room there is; at least one item is shown, whatever its size.
    """
    start = before
    if not start <= at or sum(sizes[start : at + 1]) > room:
        start = at
        while start > 0 and sum(sizes[start - 1 : at]) <= room // 2 and sum(sizes[start - 1 : at + 1]) <= room:
            start -= 1
    end = start + 1
    while end < len(sizes) and sum(sizes[start : end + 1]) <= room:
        end += 1
    while start > 0 and sum(sizes[start - 1 : end]) <= room:
        start -= 1
    return range(start, max(end, at + 1))


def _cut(text: str, width: int) -> str:
    """Text of at most this width: its beginning and its end, where sweeps differ."""
    end = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - end]}…{text[-end:]}"


def _more(rows: int, columns: int) -> Text:
    """What there was no room for."""
    counts = ((columns, "attack"), (rows, "defense"))
    told = [f"+{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count]
    return Text(", ".join(told), style="dim")
