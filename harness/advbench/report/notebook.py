"""Leaderboards as HTML tables for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from advbench.report.board import Board, BoardCell, make_boards
from advbench.report.footer import READING, attack_settings, failures, provenance

__all__ = ["leaderboards_html"]

_LEFT, _RIGHT = "text-align: left", "text-align: right"


def leaderboards_html(results: Mapping[str, Any]) -> str:
    """All leaderboards with notes, failures and the attacks' parameters; text from plugins is escaped."""
    parts = [_table(board) for board in make_boards(results)]
    parts += [_small(escape(line)) for line in (*failures(results), READING)]
    parts.append(_small("attacks:<br>" + "<br>".join(map(escape, attack_settings(results)))))
    parts += [_small(escape(f"{label}: {text}")) for label, text in provenance(results)]
    return "\n".join(parts)


def _small(html: str) -> str:
    return f"<p><small>{html}</small></p>"


def _table(board: Board) -> str:
    heads = "".join(
        f'<th style="{_aligned(index)}">'
        + "<br>".join([escape(column.title), *(f"<small>{escape(text)}</small>" for text in column.details)])
        + "</th>"
        for index, column in enumerate(board.columns)
    )
    rows = "".join(
        "<tr>"
        + "".join(f'<td style="{_aligned(index)}">{_cell(cell)}</td>' for index, cell in enumerate(row))
        + "</tr>"
        for row in board.rows
    )
    notes = "".join(f"<p><small>{escape(note)}</small></p>" for note in board.notes)
    caption = f"<p><b>{escape(board.title)}</b></p>"
    return f"{caption}<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{notes}"


def _aligned(index: int) -> str:
    return _RIGHT if index else _LEFT


def _cell(cell: BoardCell) -> str:
    text = escape(cell.text)
    return f"<b>{text}</b>" if cell.best else text
