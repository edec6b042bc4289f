"""Leaderboards in GitHub-flavoured Markdown."""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from advbench.api.reporter import Reporter
from advbench.printable import one_line
from advbench.report.board import Board, BoardCell, Column, make_boards
from advbench.report.footer import READING, attack_settings, failures, provenance
from advbench.report.protocols import ProtocolTable

__all__ = ["Markdown", "code", "escape"]

_SPECIAL = re.compile(r"([\\`*_\[\]|~#$@])")

_AUTOLINK = re.compile(r"(?<=:)/(?=/)|(?<=www)\.", re.IGNORECASE)
"""What makes a link of an address that stands in the text; mail addresses and mentions need their ``@``."""

_LIST = re.compile(r"^(\d*)([-+=.)]+)(?=\s|$)")
"""The beginning of a text that would make it a list, a heading or a rule."""


@dataclasses.dataclass(frozen=True)
class Markdown(Reporter):
    """Leaderboards as GitHub-flavoured Markdown tables."""

    name = "markdown"
    suffix = ".md"

    def render(self, results: Mapping[str, Any]) -> str:
        """Renders all leaderboards with notes, failures and footer."""
        blocks = [block for board in make_boards(results) for block in _render_board(board)]
        lines = failures(results)
        if lines:
            blocks.append("\n".join(f"- {escape(line)}" for line in lines))
        facts = [f"- {label}: {code(text)}" for label, text in provenance(results)]
        attacks = [f"- attack: {code(spec)}" for spec in attack_settings(results)]
        blocks += [READING, "\n".join(attacks + facts)]
        return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """Text for Markdown on one line, in which nothing is markup, a link or a mention."""
    escaped = _SPECIAL.sub(r"\\\1", html.escape(one_line(text), quote=False))
    return _LIST.sub(r"\1\\\2", _AUTOLINK.sub(r"\\\g<0>", escaped))


def _render_board(board: Board) -> list[str]:
    headers = [_heading(column) for column in board.columns]
    rows = [[_cell(cell) for cell in row] for row in board.rows]
    alignment = ["left"] + ["right"] * (len(headers) - 1)
    table = tabulate(rows, headers, tablefmt="pipe", colalign=alignment, disable_numparse=True)
    notes = [escape(note) for note in board.notes]
    folded = [] if board.protocols is None else [_folded(board.protocols)]
    return [f"**{escape(board.title)}**", table, *notes, *folded]


def _folded(protocols: ProtocolTable) -> str:
    """A table that a click opens."""
    rows = [[escape(text) for text in row] for row in protocols.rows]
    alignment = ["left"] * protocols.names + ["right"] * (len(protocols.head) - protocols.names)
    table = tabulate(rows, protocols.head, tablefmt="pipe", colalign=alignment, disable_numparse=True)
    title = html.escape(protocols.title)
    return f"<details><summary>{title}</summary>\n\n{escape(protocols.reading)}\n\n{table}\n\n</details>"


def _heading(column: Column) -> str:
    return "<br>".join(escape(text) for text in (column.title, *column.details))


def _cell(cell: BoardCell) -> str:
    text = escape(cell.text)
    return f"**{text}**" if cell.best else text


def code(text: str) -> str:
    """Formats text as inline code, with enough backticks around it; text with ``<`` becomes a ``<code>`` element."""
    text = one_line(text)
    if "<" in text:
        return f"<code>{escape(text)}</code>"
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{text}{pad}{fence}"
