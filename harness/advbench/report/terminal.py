"""Leaderboards in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advbench.report.board import Board, make_boards
from advbench.report.footer import READING, attack_settings, failures, provenance

__all__ = ["print_results"]

_LONG_WORD = 10
"""How many characters of a word are kept together: parameters may be long."""


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """Prints every leaderboard with its notes, failures and footer."""
    for board in make_boards(results):
        console.print()
        console.print(Text(board.title, style="bold"))
        for places in _split(board, console.width):
            console.print(_table(board, places, console.width))
        for note in board.notes:
            console.print(Text(note, style="dim"))
    for line in failures(results):
        console.print(Text(line, style="red" if line.startswith("ERR") else "yellow"))
    if results["leaderboards"]:
        console.print(Text(READING, style="dim"))
    console.print()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("attacks", Text("\n".join(attack_settings(results))))
    for label, text in provenance(results):
        grid.add_row(label, Text(text))
    console.print(grid)


def _table(board: Board, places: Sequence[int], width: int) -> Table:
    """Some of a board's columns, which fit into the width."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place, size in zip(places, _widths(board, places, width), strict=True):
        column = board.columns[place]
        heading = Text(column.title)
        for detail in column.details:
            heading.append(f"\n{detail}", style="dim")
        justify: Literal["left", "right"] = "left" if place == 0 else "right"
        table.add_column(heading, justify=justify, overflow="fold", width=size)
    for row in board.rows:
        cells = [row[place] for place in places]
        table.add_row(
            *(Text(cell.text, style="bold green" if cell.best else "bold red" if cell.failed else "") for cell in cells)
        )
    return table


def _split(board: Board, width: int) -> list[list[int]]:
    """The columns of each table that a board needs in this width: the first column, and as many more as fit.

    The last two, worst case and interval, stay together.
    """
    end = len(board.columns) - 2
    narrowest = [_narrowest(board, place) for place in range(len(board.columns))]
    tables = [[0]]
    for places in (*([place] for place in range(1, end)), [end, end + 1]):
        wider = [*tables[-1], *places]
        if len(tables[-1]) > 1 and _total(narrowest[place] for place in wider) > width:
            tables.append([0, *places])
        else:
            tables[-1] = wider
    return tables


def _widths(board: Board, places: Sequence[int], width: int) -> list[int]:
    """A width a column: what each needs, and what is left to those that lack least for their lines to fold nowhere."""
    widths = [_narrowest(board, place) for place in places]
    lacking = [
        max(len(text) for text in _texts(board, place)) - size for place, size in zip(places, widths, strict=True)
    ]
    left = max(0, width - _total(widths))
    for at in sorted(range(len(widths)), key=lambda at: lacking[at]):
        more = min(lacking[at], left)
        widths[at] += more
        left -= more
    return widths


def _narrowest(board: Board, place: int) -> int:
    """The width in which a column breaks no number and no word, long parameters aside."""
    words = [word for text in _texts(board, place) for word in text.split()]
    return max(*(len(row[place].text) for row in board.rows), *(min(len(word), _LONG_WORD) for word in words))


def _texts(board: Board, place: int) -> list[str]:
    column = board.columns[place]
    return [column.title, *column.details, *(row[place].text for row in board.rows)]


def _total(widths: Iterable[int]) -> int:
    """The width of a table, its rules and padding included."""
    sizes = list(widths)
    return sum(sizes) + 3 * len(sizes) - 1
