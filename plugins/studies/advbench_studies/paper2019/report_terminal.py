"""A reproduction in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from advbench_studies.paper2019.report_layout import (
    DISTANCES,
    READING,
    Line,
    accuracies,
    defense_titles,
    distances,
    distortions,
    facts,
    missing_weights,
    oblivious,
    problems,
    tally,
)
from advbench_studies.paper2019.verdict import FAILS, HOLDS, NOT_RUN, UNDECIDED

__all__ = ["print_reproduction"]

_STYLES = {HOLDS: "bold green", FAILS: "bold red", UNDECIDED: "yellow", NOT_RUN: "dim"}
_SHORT = {UNDECIDED: "?", NOT_RUN: "—"}
_NORMS = ("L2", "L∞")
_LEGEND = "? undecided; — not run. --output FILE.md writes the criteria, the numbers, and why a verdict is missing."


def print_reproduction(console: Console, reproduction: Mapping[str, Any]) -> None:
    """Prints the tables of all protocols, the distortions, the claims' verdicts and their provenance."""
    for protocol in reproduction["protocols"]:
        console.print()
        console.print(_accuracy(protocol))
        if far := distances(protocol):
            console.print(_distances(protocol, far))
        console.print(Text(protocol["meaning"], style="dim"))
        for line in protocol["reduced"]:
            console.print(Text(f"* not as in the paper: {line}", style="yellow"))
    console.print()
    for norm in _NORMS:
        console.print(_distortion(reproduction, norm))
    console.print()
    console.print(_claims(reproduction))
    console.print(Text(_LEGEND, style="dim"))
    for sentence in tally(reproduction):
        console.print(Text(sentence, style="bold"))
    sentence, commands = missing_weights(reproduction)
    if commands:
        console.print(Text(sentence))
        for command in commands:
            console.print(Text(f"  {command}"), soft_wrap=True)
    for line in problems(reproduction):
        console.print(Text(line, style="red" if line.startswith("ERR") else "yellow"))
    console.print(Text(READING, style="dim"))
    console.print()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in facts(reproduction):
        grid.add_row(label, Text(text))
    console.print(grid)


def _accuracy(protocol: Mapping[str, Any]) -> Table:
    table = _table(f"Accuracy, {protocol['title']}, in %", ("attack", "dataset"), defense_titles(protocol, "short"))
    for line in accuracies(protocol):
        styles = ("bold green" if entry.best else "bold red" if entry.failed else "" for entry in line.entries)
        entries = (Text(entry.text, style=style) for entry, style in zip(line.entries, styles, strict=True))
        table.add_row(*(Text(text) for text in line.short), *entries)
    return table


def _distances(protocol: Mapping[str, Any], far: list[tuple[Line, list[str]]]) -> Table:
    table = _table(DISTANCES, ("attack", "dataset"), defense_titles(protocol, "short"))
    for line, texts in far:
        table.add_row(*(Text(text) for text in (*line.short, *texts)))
    return table


def _distortion(reproduction: Mapping[str, Any], norm: str) -> Table:
    columns = [protocol["short"] for protocol in oblivious(reproduction)]
    title = f"Median {norm} of the images that fool the model"
    table = _table(title, ("attack", "dataset"), columns)
    for line, texts in distortions(reproduction):
        table.add_row(*(Text(text) for text in (*line.short, *texts[_NORMS.index(norm) :: len(_NORMS)])))
    return table


def _claims(reproduction: Mapping[str, Any]) -> Table:
    protocols = reproduction["protocols"]
    table = _table("The paper's claims", ("", "claim"), [protocol["short"] for protocol in protocols])
    for claim in reproduction["claims"]:
        verdicts = [claim[protocol["key"]]["verdict"] for protocol in protocols]
        cells = (Text(_SHORT.get(verdict, verdict), style=_STYLES[verdict]) for verdict in verdicts)
        table.add_row(Text(str(claim["number"])), Text(claim["text"]), *cells)
    return table


def _table(title: str, texts: tuple[str, ...], columns: list[str]) -> Table:
    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for heading in texts:
        table.add_column(Text(heading), overflow="fold")
    for heading in columns:
        table.add_column(Text(heading), justify="right", overflow="fold")
    return table
