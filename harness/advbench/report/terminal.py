"""Leaderboards on a console: as tables that fit it, as plain columns, or as Markdown."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advbench.report.board import Board, BoardCell, Column, make_boards
from advbench.report.footer import READING, attack_settings, failures, provenance
from advbench.report.markdown import Markdown
from advbench.report.plain import plain_text

__all__ = ["print_leaderboards", "print_results"]

_PIECE = re.compile(r"[^ =,_:+]*[ =,_:+]?")
"""A part of a spec with the sign after which a line may end."""

_BETWEEN = 3
"""Room between two columns."""

_Line: TypeAlias = tuple[str, str]
"""A line of a cell, and its style."""

_NAMES = 30
"""How wide the column of defenses is at least, where their names are so long."""

_WORD = 30
"""Longer words, such as paths, are broken anywhere rather than make a column wider."""


def print_leaderboards(console: Console, results: Mapping[str, Any], form: str) -> None:
    """Prints every leaderboard.

    Args:
        console: Where to print.
        results: All results.
        form: ``table`` for tables that fit the console; ``plain`` or ``markdown`` for text of any width.
    """
    if form == "table":
        print_results(console, results)
    else:
        console.file.write(plain_text(results) if form == "plain" else Markdown().render(results))


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """Prints every leaderboard with its notes, failures and footer."""
    for board in make_boards(results):
        console.print()
        console.print(Text(board.title, style="bold"))
        for places in _split(board, console.width):
            for row in _table(board, places, console.width):
                console.print(row, no_wrap=True, crop=False)
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
    room = console.width - len("versions") - 2
    specs = (line for spec in attack_settings(results) for line in _folded(spec, room))
    grid.add_row("attacks", Text("\n".join(specs)))
    for label, text in provenance(results):
        grid.add_row(label, Text("\n".join(_folded(text, room))))
    console.print(grid)


def _table(board: Board, places: Sequence[int], width: int) -> Iterator[Text]:
    """Some of a board's columns, which fit into the width, line by line.

    A table of rich's own is as handsome, and of a hundred thousand cells takes a quarter of a minute.
    """
    sizes = _widths(board, places, width)
    headings = [_heading(board.columns[place], size) for place, size in zip(places, sizes, strict=True)]
    blank = Text(" " * (sum(sizes) + _BETWEEN * (len(sizes) - 1) + 2))
    yield blank
    yield from _row(headings, sizes)
    yield Text(f" {'─' * (len(blank) - 2)} ")
    ends = _ends(board.groups)
    for number, row in enumerate(board.rows, 1):
        cells = [
            [(line, _style(row[place])) for line in _folded(row[place].text, size)]
            for place, size in zip(places, sizes, strict=True)
        ]
        yield from _row(cells, sizes)
        if number in ends:
            yield blank
    yield blank


def _row(cells: Sequence[Sequence[_Line]], sizes: Sequence[int]) -> Iterator[Text]:
    """The lines of a row of cells, the first of which stands to the left of its column and all others to the right."""
    for lines in itertools.zip_longest(*cells, fillvalue=("", "")):
        text = Text(" ")
        for place, ((line, style), size) in enumerate(zip(lines, sizes, strict=True)):
            room = " " * (size - cell_len(line))
            if place:
                text.append(" " * _BETWEEN + room).append(line, style)
            else:
                text.append(line, style).append(room)
        yield text.append(" ")


def _style(cell: BoardCell) -> str:
    return "bold green" if cell.best else "bold red" if cell.failed else ""


def _heading(column: Column, width: int) -> list[_Line]:
    """A column's heading line by line."""
    details = [(line, "bold dim") for detail in column.details for line in _folded(detail, width)]
    return [*((line, "bold") for line in _folded(column.title, width)), *details]


def _ends(groups: Sequence[int]) -> set[int]:
    """After which rows room is left: between groups, one of which has several rows."""
    lasts = itertools.accumulate(groups)
    return {last for last, pair in zip(lasts, itertools.pairwise(groups), strict=False) if max(pair) > 1}


def _folded(text: str, width: int) -> list[str]:
    """Text in lines of at most this width, which end between words or after the signs between a spec's parts.

    A word that is longer fills lines.
    """
    if cell_len(whole := text.rstrip()) <= width:
        return [whole]
    lines = [""]
    for piece in _PIECE.findall(text):
        if cell_len(lines[-1] + piece.rstrip()) > width and lines[-1]:
            lines.append("")
        last = lines.pop() + piece
        lines += chop_cells(last, width) if cell_len(last.rstrip()) > width else [last]
    return [line.rstrip() for line in lines]


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
    """A width a column: what each needs, and what is left to all of those alike whose lines would fold."""
    widths = [_narrowest(board, place) for place in places]
    wanted = [max(cell_len(text) for text in _texts(board, place)) for place in places]
    left = max(0, width - _total(widths))
    while (lacking := [at for at, size in enumerate(widths) if size < wanted[at]]) and len(lacking) <= left:
        for at in lacking:
            widths[at] += 1
        left -= len(lacking)
    return [
        max(cell_len(line) for text in _texts(board, place) for line in _folded(text, size))
        for place, size in zip(places, widths, strict=True)
    ]


def _narrowest(board: Board, place: int) -> int:
    """The width in which a column breaks no number, and other text only where :func:`_folded` does."""
    pieces = max(
        min(cell_len(piece.rstrip()), _WORD) for text in _texts(board, place) for piece in _PIECE.findall(text)
    )
    longest = max((cell_len(row[place].text) for row in board.rows), default=0)
    return max(pieces, longest if place else min(longest, _NAMES))


def _texts(board: Board, place: int) -> list[str]:
    """The texts of a column, each once."""
    column = board.columns[place]
    return list(dict.fromkeys([column.title, *column.details, *(row[place].text for row in board.rows)]))


def _total(widths: Iterable[int]) -> int:
    """The width of a table, its rules and padding included."""
    sizes = list(widths)
    return sum(sizes) + _BETWEEN * (len(sizes) - 1) + 2
