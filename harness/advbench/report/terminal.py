"""Leaderboards in the terminal."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advbench.report.board import Board, Column, make_boards
from advbench.report.footer import READING, attack_settings, failures, provenance

__all__ = ["print_results"]

_PIECE = re.compile(r"[^ =,_:+]*[ =,_:+]?")
"""A part of a spec with the sign after which a line may end."""

_NAMES = 30
"""How wide the column of defenses is at least, where their names are so long."""

_WORD = 30
"""Longer words, such as paths, are broken anywhere rather than make a column wider."""


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
    room = console.width - len("versions") - 2
    specs = (line for spec in attack_settings(results) for line in _folded(spec, room))
    grid.add_row("attacks", Text("\n".join(specs)))
    for label, text in provenance(results):
        grid.add_row(label, Text("\n".join(_folded(text, room))))
    console.print(grid)


def _table(board: Board, places: Sequence[int], width: int) -> Table:
    """Some of a board's columns, which fit into the width."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    sizes = _widths(board, places, width)
    headings = [_heading(board.columns[place], size) for place, size in zip(places, sizes, strict=True)]
    tallest = max(map(len, headings))
    for place, size, heading in zip(places, sizes, headings, strict=True):
        lines = [*heading, *[Text()] * (tallest - len(heading))]
        justify: Literal["left", "right"] = "left" if place == 0 else "right"
        table.add_column(Text("\n").join(lines), justify=justify, overflow="fold", width=size)
    ends = _ends(board.groups)
    for number, row in enumerate(board.rows, 1):
        cells = [row[place] for place in places]
        texts = [
            Text(
                "\n".join(_folded(cell.text, size)),
                style="bold green" if cell.best else "bold red" if cell.failed else "",
            )
            for cell, size in zip(cells, sizes, strict=True)
        ]
        table.add_row(*texts, end_section=number in ends)
    return table


def _heading(column: Column, width: int) -> list[Text]:
    """A column's heading line by line."""
    details = [Text(line, style="dim") for detail in column.details for line in _folded(detail, width)]
    return [*map(Text, _folded(column.title, width)), *details]


def _ends(groups: Sequence[int]) -> set[int]:
    """After which rows room is left: between groups, one of which has several rows."""
    lasts = itertools.accumulate(groups)
    return {last for last, pair in zip(lasts, itertools.pairwise(groups), strict=False) if max(pair) > 1}


def _folded(text: str, width: int) -> list[str]:
    """Text in lines of at most this width, which end between words or after the signs between a spec's parts.

    A word that is longer fills lines.
    """
    lines = [""]
    for piece in _PIECE.findall(text):
        if len(lines[-1] + piece.rstrip()) > width and lines[-1]:
            lines.append("")
        last = lines.pop() + piece
        while len(last.rstrip()) > width:
            lines.append(last[:width])
            last = last[width:]
        lines.append(last)
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
    wanted = [max(len(text) for text in _texts(board, place)) for place in places]
    left = max(0, width - _total(widths))
    while (lacking := [at for at, size in enumerate(widths) if size < wanted[at]]) and len(lacking) <= left:
        for at in lacking:
            widths[at] += 1
        left -= len(lacking)
    return [
        max(len(line) for text in _texts(board, place) for line in _folded(text, size))
        for place, size in zip(places, widths, strict=True)
    ]


def _narrowest(board: Board, place: int) -> int:
    """The width in which a column breaks no number, and other text only where :func:`_folded` does."""
    pieces = max(min(len(piece.rstrip()), _WORD) for text in _texts(board, place) for piece in _PIECE.findall(text))
    longest = max((len(row[place].text) for row in board.rows), default=0)
    return max(pieces, longest if place else min(longest, _NAMES))


def _texts(board: Board, place: int) -> list[str]:
    column = board.columns[place]
    return [column.title, *column.details, *(row[place].text for row in board.rows)]


def _total(widths: Iterable[int]) -> int:
    """The width of a table, its rules and padding included."""
    sizes = list(widths)
    return sum(sizes) + 3 * len(sizes) - 1
