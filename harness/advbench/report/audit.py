"""Findings of the sanity checks, in the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from advbench.analysis.surrogates import threat_name
from advbench.printable import json_text, printable

__all__ = ["print_audit", "render_audit"]


def render_audit(results: Mapping[str, Any]) -> str:
    """The findings as a JSON array, with cells given by their specs."""
    findings = [
        {**finding, "cells": [_coordinates(results["cells"][index]) for index in finding["cells"]]}
        for finding in results["findings"]
    ]
    return json_text(findings, indent=2) + "\n"


def print_audit(console: Console, results: Mapping[str, Any]) -> None:
    """Prints the findings with their cells, defenses without adaptive attacks, and criteria that were not checked."""
    run = results["run"]
    done = sum(cell["status"] == "ok" for cell in results["cells"])
    console.print(Text(printable(f"run {run['run']}: {run['command']}"), style="dim"))
    for finding in results["findings"]:
        console.print()
        console.print(Text(printable(finding["criterion"]), style="bold yellow"))
        console.print(Text(printable(f"  {finding['message']}")))
        console.print(Text(printable(f"  next: {finding['advice']}")))
        for line in _cells(results, finding["cells"]):
            console.print(Text(printable(f"  cell: {line}"), style="dim"))
    short = {cell[kind]: cell["short"][kind] for cell in results["cells"] for kind in ("dataset", "model", "defense")}
    not_adaptive = {
        f"{short[row['defense']]} on {short[board['dataset']]}, {short[board['model']]}"
        for board in results["leaderboards"]
        for row in board["rows"]
        if row["marks"]
    }
    for name in sorted(not_adaptive):
        console.print()
        console.print(Text("not adaptively attacked", style="bold yellow"))
        console.print(Text(f"  {printable(name)}: next: run it under both threats, oblivious and adaptive"))
    for missing in results.get("not_looked_for", ()):
        console.print()
        console.print(Text(f"not checked: {missing['criterion']}", style="bold"))
        console.print(Text(f"  next: {missing['advice']}"))
    console.print()
    count = len(results["findings"])
    console.print(f"{count or 'no'} finding{'' if count == 1 else 's'} in {done} cell{'' if done == 1 else 's'}")


def _coordinates(cell: Mapping[str, Any]) -> dict[str, str]:
    """The full specs of a cell's coordinates, with the surrogate if it has one."""
    names = ("dataset", "model", "attack", "threat", "defense", *(["surrogate"] if cell.get("surrogate") else []))
    return {name: cell[name] for name in names}


def _cells(results: Mapping[str, Any], indices: list[int]) -> Iterator[str]:
    for index in indices:
        cell = results["cells"][index]
        short = cell["short"]
        yield f"{short['dataset']} {short['model']} {short['attack']} {threat_name(cell)} {short['defense']}"
