"""Leaderboards as plain ASCII text, for pipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from advbench.printable import one_line
from advbench.report.board import Board, BoardCell, make_boards
from advbench.report.footer import READING, attack_settings, failures, provenance
from advbench.report.protocols import ProtocolTable

__all__ = ["plain_text"]

_BEST = "*"
_ASCII = str.maketrans(
    {
        "∞": "inf",
        "≤": "<=",
        "±": "+-",
        "–": "-",
        "—": "-",
        "·": "|",
        "×": "x",
        "†": "#",
        "…": "...",
        "σ": "sigma",
        "°": " deg",
    }
)


def plain_text(results: Mapping[str, Any]) -> str:
    """All leaderboards as columns of text, one line per row, with notes, failures and footer."""
    boards = make_boards(results)
    blocks = [block for board in boards for block in _blocks(board)]
    if any(cell.best for board in boards for row in board.rows for cell in row):
        blocks.append(f"{_BEST} the best of its column.")
    blocks += [_line(line) for line in failures(results)]
    facts = [*(("attack", spec) for spec in attack_settings(results)), *provenance(results)]
    footer = tabulate([[label, _line(text)] for label, text in facts], tablefmt="plain", disable_numparse=True)
    return "\n\n".join([*blocks, _line(READING), footer]) + "\n"


def _blocks(board: Board) -> list[str]:
    headings = ["\n".join(_line(text) for text in (column.title, *column.details)) for column in board.columns]
    rows = [[_cell(cell) for cell in row] for row in board.rows]
    alignment = ["left"] + ["right"] * (len(headings) - 1)
    table = tabulate(rows, headings, tablefmt="simple", colalign=alignment, disable_numparse=True)
    lines = "\n".join(line.rstrip() for line in table.splitlines())
    notes = [_line(note) for note in board.notes]
    return [_line(board.title), lines, *notes, *([] if board.protocols is None else _protocols(board.protocols))]


def _protocols(protocols: ProtocolTable) -> list[str]:
    rows = [[_line(text) for text in row] for row in protocols.rows]
    alignment = ["left"] * protocols.names + ["right"] * (len(protocols.head) - protocols.names)
    table = tabulate(rows, protocols.head, tablefmt="simple", colalign=alignment, disable_numparse=True)
    return [_line(f"{protocols.title}. {protocols.reading}"), "\n".join(line.rstrip() for line in table.splitlines())]


def _cell(cell: BoardCell) -> str:
    """The text of a cell; the mark of the best is put before the number, so that numbers stay aligned."""
    return _BEST * cell.best + _line(cell.text)


def _line(text: str) -> str:
    """Text on one line, with escapes for characters that do not print, and with ASCII replacements for symbols."""
    return one_line(text).translate(_ASCII)
