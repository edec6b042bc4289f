"""Findings, failures and warnings, with links to their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from advbench.analysis.surrogates import threat_name
from advbench.report.page.escaping import escape

__all__ = ["messages_section"]

_MOST = 6
"""Number of cells that are linked with a finding."""


def messages_section(results: Mapping[str, Any]) -> str:
    """The section with all findings, failures and warnings."""
    items = [*_findings(results), *_failures(results), *_warnings(results)]
    text = f"<ul>{''.join(items)}</ul>" if items else "<p>The sanity checks have no findings.</p>"
    texts = [note for notes in results["run"].get("dataset_notes", {}).values() for note in notes]
    texts += results.get("details", {}).get("notes", ())
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in texts)
    return f'<section id="messages"><h2>Sanity checks and failures</h2>{text}{notes}</section>'


def _findings(results: Mapping[str, Any]) -> list[str]:
    return [
        f'<li><b class="doubt">! {escape(finding["criterion"])}</b> {escape(finding["message"])}. '
        f"<i>{escape(finding['advice'])}.</i> {_links(results, finding['cells'])}</li>"
        for finding in results.get("findings", ())
    ]


def _failures(results: Mapping[str, Any]) -> list[str]:
    cells: dict[str, list[int]] = {}
    for index, cell in enumerate(results["cells"]):
        if cell["status"] == "error":
            cells.setdefault(f"ERR {cell['error']}", []).append(index)
        elif cell["status"] == "skipped" and cell["error"] != "not run":
            cells.setdefault(f"skipped: {cell['error']}", []).append(index)
    return [f"<li>{_marked(text)} {_links(results, indices)}</li>" for text, indices in cells.items()]


def _marked(text: str) -> str:
    return f'<span class="bad">{escape(text)}</span>' if text.startswith("ERR") else escape(text)


def _warnings(results: Mapping[str, Any]) -> list[str]:
    """Warnings that do not repeat a finding."""
    cells: dict[str, list[int]] = {}
    for index, cell in enumerate(results["cells"]):
        for text in cell["warnings"]:
            if not any(text.startswith(f"{name}: ") for name in cell.get("findings", ())):
                cells.setdefault(text, []).append(index)
    return [f"<li>{escape(text)} {_links(results, indices)}</li>" for text, indices in cells.items()]


def _links(results: Mapping[str, Any], cells: Sequence[int]) -> str:
    named = [f'<a href="#cell-{index}">{escape(_name(results["cells"][index]))}</a>' for index in cells[:_MOST]]
    more = [f"and {len(cells) - _MOST} more"] if len(cells) > _MOST else []
    return f'<span class="where">{", ".join([*named, *more])}</span>'


def _name(cell: Mapping[str, Any]) -> str:
    short = cell["short"]
    return f"{short['dataset']} {short['model']}: {short['defense']} against {short['attack']}, {threat_name(cell)}"
