"""Leaderboards in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advbench.report.board import Board, make_boards
from advbench.report.footer import READING, attack_settings, failures, provenance

__all__ = ["print_results"]


def print_results(console: Console, results: Mapping[str, Any]) -> None:
    """Prints every leaderboard with its notes, failures and footer."""
    for board in make_boards(results):
        console.print()
        console.print(_table(board))
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


def _table(board: Board) -> Table:
    table = Table(title=Text(board.title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(board.columns):
        heading = Text(column.title)
        for detail in column.details:
            heading.append(f"\n{detail}", style="dim")
        table.add_column(heading, justify="left" if place == 0 else "right", overflow="fold")
    for row in board.rows:
        cells = [
            Text(cell.text, style="bold green" if cell.best else "bold red" if cell.failed else "") for cell in row
        ]
        table.add_row(*cells)
    return table
