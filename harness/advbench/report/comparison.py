"""Comparisons of components or runs, in the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from tabulate import tabulate

from advbench.printable import one_line
from advbench.report.board import percent
from advbench.report.markdown import escape

__all__ = ["comparison_markdown", "print_comparison"]

NOTE = (
    "Robust accuracy in %. 'only' counts the samples that only one of the two withstands; p is McNemar's exact test on "
    "them, in brackets with Holm's correction for the number of rows. Bold: significant at 5 % after the correction. "
    "The worst case is over the rows shown. Random defenses and models count with their first draw of the score."
)


def print_comparison(
    console: Console,
    names: tuple[str, str],
    rows: Sequence[Mapping[str, Any]],
    differing: Sequence[tuple[str, str, str]],
) -> None:
    """Prints a comparison.

    Args:
        console: The console.
        names: The names of the two components or runs.
        rows: From :mod:`advbench.analysis.comparison`.
        differing: Other differences between two runs: name and both values.
    """
    heading, lines = _lay_out(names, rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, text in enumerate(heading):
        table.add_column(Text(text), justify="left" if index < len(heading) - 6 else "right", overflow="fold")
    for row, line in zip(rows, lines, strict=True):
        table.add_row(*map(Text, line), style="bold" if row["p_holm"] < 0.05 else "")
    console.print(table)
    console.print(Text(NOTE, style="dim"))
    for name, before, after in differing:
        console.print(Text(one_line(f"{name}: {before} → {after}"), style="yellow"))


def comparison_markdown(
    names: tuple[str, str], rows: Sequence[Mapping[str, Any]], differing: Sequence[tuple[str, str, str]]
) -> str:
    """A comparison as Markdown; takes the same arguments as :func:`print_comparison`."""
    heading, lines = _lay_out(names, rows)
    cells = [
        [f"**{escape(text)}**" if row["p_holm"] < 0.05 and text else escape(text) for text in line]
        for row, line in zip(rows, lines, strict=True)
    ]
    alignment = ["left"] * (len(heading) - 6) + ["right"] * 6
    table = tabulate(
        cells, [escape(text) for text in heading], tablefmt="pipe", colalign=alignment, disable_numparse=True
    )
    others = [f"- {escape(f'{name}: {before} → {after}')}" for name, before, after in differing]
    return "\n\n".join([table, NOTE, *(["\n".join(others)] if others else [])]) + "\n"


def _lay_out(names: tuple[str, str], rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """The headings and the lines, printable, without coordinates that are the same in all rows."""
    always = "attack" if any("attack" in row for row in rows) else "threat"
    shown = [
        key
        for key in ("dataset", "model", "defense", "threat", "surrogate", "attack")
        if key == always or len({row[key] for row in rows if row.get(key)}) > 1
    ]
    heading = [*shown, *map(one_line, names), "difference", "only first", "only second", "p"]
    lines = [
        [
            *(one_line(row["short"].get(key, row.get(key, ""))) for key in shown),
            percent(row["first"]),
            percent(row["second"]),
            f"{100 * row['difference']:+.1f}",
            str(row["only_first"]),
            str(row["only_second"]),
            f"{_p(row['p'])} ({_p(row['p_holm'])})",
        ]
        for row in rows
    ]
    return heading, lines


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"
