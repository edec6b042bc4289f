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
from advbench.report.protocols import ProtocolTable

__all__ = ["print_leaderboards", "print_results"]

_PIECE = re.compile(r"(?:[^ ,:+]| (?=%|px\b))*[ ,:+]?")
"""A part of a spec with the punctuation after which a line may break, or a number with its unit."""

_GAP = 3
"""Space between two columns."""

_Line: TypeAlias = tuple[str, str]
"""A line of a cell, and its style."""

_MIN_NAME_WIDTH = 30
"""Smallest width of the column of defenses, if their names are that long."""

_MAX_WORD_WIDTH = 30
"""Longer words, such as paths, may be broken anywhere, so that they do not widen a column."""


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
    """Prints all leaderboards with notes, failures and footer."""
    for board in make_boards(results):
        console.print()
        console.print(Text(board.title, style="bold"))
        parts = _split(board, console.width)
        for indices in parts:
            if len(parts) > 1:
                console.print(Text(_part_label(board, indices), style="dim"))
            for row in _table(board, indices, console.width):
                console.print(row, no_wrap=True, crop=False)
        for note in board.notes:
            console.print(Text(note, style="dim"))
        if board.protocols is not None:
            _print_protocols(console, board.protocols)
    for line in failures(results):
        console.print(Text(line, style="red" if line.startswith("ERR") else "yellow"))
    if results["leaderboards"]:
        console.print(Text(READING, style="dim"))
    console.print()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    space = console.width - len("versions") - 2
    specs = (line for spec in attack_settings(results) for line in _folded(spec, space))
    grid.add_row("attacks", Text("\n".join(specs)))
    for label, text in provenance(results):
        grid.add_row(label, Text("\n".join(_folded(text, space))))
    console.print(grid)


def _print_protocols(console: Console, protocols: ProtocolTable) -> None:
    """A small table below the board, in whose first column the names are wrapped where the console is narrow."""
    console.print(Text(f"{protocols.title}. {protocols.reading}", style="dim"))
    head, *rows = (
        [" · ".join(row[: protocols.names]), *row[protocols.names :]] for row in (protocols.head, *protocols.rows)
    )
    sizes = [max(cell_len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    sizes[0] = min(sizes[0], max(_MIN_NAME_WIDTH, console.width - _total(sizes) + sizes[0]))
    blank = Text(" ")
    console.print(blank)
    for number, row in enumerate((head, *rows)):
        lines = [[(line, "" if number else "bold dim") for line in _folded(text, sizes[0])] for text in row]
        for line in _row(lines, sizes):
            console.print(line, no_wrap=True, crop=False)
    console.print(blank)


def _table(board: Board, indices: Sequence[int], width: int) -> Iterator[Text]:
    """The lines of a table with some columns of a board, which fit into the width.

    A table of rich would look the same but take 15 seconds for a hundred thousand cells.
    """
    sizes = _widths(board, indices, width)
    headings = [_heading(board.columns[index], size) for index, size in zip(indices, sizes, strict=True)]
    blank = Text(" " * (sum(sizes) + _GAP * (len(sizes) - 1) + 2))
    yield blank
    yield from _row(headings, sizes)
    yield Text(f" {'─' * (len(blank) - 2)} ")
    ends = _ends(board.groups)
    for number, row in enumerate(board.rows, 1):
        cells = [
            [(line, _style(row[index])) for line in _folded(row[index].text, size)]
            for index, size in zip(indices, sizes, strict=True)
        ]
        yield from _row(cells, sizes)
        if number in ends:
            yield blank
    yield blank


def _row(cells: Sequence[Sequence[_Line]], sizes: Sequence[int]) -> Iterator[Text]:
    """The lines of a row; the first cell is aligned to the left, all others to the right."""
    for lines in itertools.zip_longest(*cells, fillvalue=("", "")):
        text = Text(" ")
        for index, ((line, style), size) in enumerate(zip(lines, sizes, strict=True)):
            space = " " * (size - cell_len(line))
            if index:
                text.append(" " * _GAP + space).append(line, style)
            else:
                text.append(line, style).append(space)
        yield text.append(" ")


def _style(cell: BoardCell) -> str:
    return "bold green" if cell.best else "bold red" if cell.failed else ""


def _heading(column: Column, width: int) -> list[_Line]:
    """The lines of a column's heading."""
    details = [(line, "bold dim") for detail in column.details for line in _folded(detail, width)]
    return [*((line, "bold") for line in _folded(column.title, width)), *details]


def _ends(groups: Sequence[int]) -> set[int]:
    """The rows after which there is a blank line: between two groups of which at least one has several rows."""
    lasts = itertools.accumulate(groups)
    return {last for last, pair in zip(lasts, itertools.pairwise(groups), strict=False) if max(pair) > 1}


def _folded(text: str, width: int) -> list[str]:
    """Wraps text to a width, at spaces and after the punctuation between the parts of a spec.

    A word that is too long is broken anywhere.
    """
    if cell_len(stripped := text.rstrip()) <= width:
        return [stripped]
    lines = [""]
    for piece in _PIECE.findall(text):
        if cell_len(lines[-1] + piece.rstrip()) > width and lines[-1]:
            lines.append("")
        last = lines.pop() + piece
        lines += chop_cells(last, width) if cell_len(last.rstrip()) > width else [last]
    return [line.rstrip() for line in lines]


def _split(board: Board, width: int) -> list[list[int]]:
    """Splits the columns of a board into tables that fit into the width; each starts with the first column.

    If there are several, worst case and interval, which are the last two columns of the board, stand next to the
    defense in the first table, because readers look there first.
    """
    end = len(board.columns) - 2
    narrowest = [_narrowest(board, index) for index in range(len(board.columns))]
    if _total(narrowest) <= width:
        return [list(range(len(board.columns)))]
    tables = [[0, end, end + 1]]
    for index in range(1, end):
        wider = [*tables[-1], index]
        if len(tables[-1]) > 1 and _total(narrowest[index] for index in wider) > width:
            tables.append([0, index])
        else:
            tables[-1] = wider
    return tables


def _part_label(board: Board, indices: Sequence[int]) -> str:
    """Which attacks a part of a board shows. The worst case is over all attacks, also over those of other parts."""
    end = len(board.columns) - 2
    total = end - 2 - board.certified
    attacks = [index - 1 for index in indices if 2 <= index < 2 + total]
    sentences = []
    if len(attacks) > 1:
        sentences.append(f"Attacks {attacks[0]}–{attacks[-1]} of {total}.")
    elif attacks:
        sentences.append(f"Attack {attacks[0]} of {total}.")
    if not attacks and board.certified:
        sentences.append("Certified accuracies.")
    if end in indices and total > 1:
        sentences.append(f"The {board.columns[end].title} is over all {total} attacks.")
    return " ".join(sentences)


def _widths(board: Board, indices: Sequence[int], width: int) -> list[int]:
    """The widths of columns: the smallest widths, with the remaining space given to columns that would be wrapped.

    Columns that lack the least come first, so that as few as possible are wrapped; the others share what remains.
    """
    widths = [_narrowest(board, index) for index in indices]
    wanted = [max(cell_len(text) for text in _texts(board, index)) for index in indices]
    left = max(0, width - _total(widths))
    for at in sorted(range(len(widths)), key=lambda at: wanted[at] - widths[at]):
        if 0 < wanted[at] - widths[at] <= left:
            left -= wanted[at] - widths[at]
            widths[at] = wanted[at]
    while (lacking := [at for at, size in enumerate(widths) if size < wanted[at]]) and len(lacking) <= left:
        for at in lacking:
            widths[at] += 1
        left -= len(lacking)
    return [
        max(cell_len(line) for text in _texts(board, index) for line in _folded(text, size))
        for index, size in zip(indices, widths, strict=True)
    ]


def _narrowest(board: Board, index: int) -> int:
    """The smallest width in which no number is broken, and other text only at the points of :func:`_folded`."""
    pieces = max(
        min(cell_len(piece.rstrip()), _MAX_WORD_WIDTH)
        for text in _texts(board, index)
        for piece in _PIECE.findall(text)
    )
    longest = max((cell_len(row[index].text) for row in board.rows), default=0)
    return max(pieces, longest if index else min(longest, _MIN_NAME_WIDTH))


def _texts(board: Board, index: int) -> list[str]:
    """The distinct texts of a column."""
    column = board.columns[index]
    return list(dict.fromkeys([column.title, *column.details, *(row[index].text for row in board.rows)]))


def _total(widths: Iterable[int]) -> int:
    """The width of a table, including gaps and padding."""
    sizes = list(widths)
    return sum(sizes) + _GAP * (len(sizes) - 1) + 2
