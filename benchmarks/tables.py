"""Tables for the terminal and for files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

__all__ = ["Table", "write"]


@dataclass(frozen=True)
class Table:
    """The result of one part.

    Attributes:
        title: What was measured.
        note: How to read the table.
        headers: Names of the columns.
        rows: One value per column; None for a missing one.
    """

    title: str
    note: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def markdown(self) -> str:
        """Returns the table in GitHub's Markdown."""
        rows = [[_text(value) for value in row] for row in self.rows]
        numbers = [
            "right" if all(isinstance(row[i], int | float | None) for row in self.rows) else "left"
            for i in range(len(self.headers))
        ]
        table = tabulate(rows, headers=self.headers, tablefmt="github", colalign=numbers, disable_numparse=True)
        return f"## {self.title}\n\n{self.note}\n\n{table}\n"

    def data(self) -> dict[str, Any]:
        """Returns the table as a structure of names and unrounded values."""
        rows = [dict(zip(self.headers, row, strict=True)) for row in self.rows]
        return {"title": self.title, "note": self.note, "rows": rows}


def write(tables: Sequence[Table], heading: str, folder: Path, facts: dict[str, Any]) -> None:
    """Writes report.md and report.json to a folder, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join([heading, *(table.markdown() for table in tables)])
    (folder / "report.md").write_text(text, "utf-8")
    content = {**facts, "tables": [table.data() for table in tables]}
    (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _text(value: Any) -> str:
    """Formats a number with four decimals below 10, fewer if it is larger; a dash for None."""
    if value is None:
        return "—"
    if not isinstance(value, float):
        return str(value)
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    decimals = 4 if abs(value) < 10 else 1
    return f"{value:.{decimals}f}" if abs(value) < 10_000 else f"{value:.0f}"
