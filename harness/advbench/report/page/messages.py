"""Findings, failures and warnings, with the cells that they concern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

__all__ = ["messages_section"]

_MOST = 6
"""So many cells are named with a finding."""


def messages_section(results: Mapping[str, Any]) -> str:
    """All that speaks against a number, or that it is all quiet."""
    items = [*_findings(results), *_failures(results), *_warnings(results)]
    text = f"<ul>{''.join(items)}</ul>" if items else "<p>No sanity check speaks against these numbers.</p>"
    told = [note for some in results["run"].get("dataset_notes", {}).values() for note in some]
    told += results.get("details", {}).get("notes", ())
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in told)
    return f'<section id="messages"><h2>Sanity checks and failures</h2>{text}{notes}</section>'


def _findings(results: Mapping[str, Any]) -> list[str]:
    return [
        f'<li><b class="doubt">! {escape(found["criterion"])}</b> {escape(found["message"])}. '
        f"<i>{escape(found['advice'])}.</i> {_links(results, found['cells'])}</li>"
        for found in results.get("findings", ())
    ]


def _failures(results: Mapping[str, Any]) -> list[str]:
    places: dict[str, list[int]] = {}
    for at, cell in enumerate(results["cells"]):
        if cell["status"] == "error":
            places.setdefault(f"ERR {cell['error']}", []).append(at)
        elif cell["status"] == "skipped" and cell["error"] != "not run":
            places.setdefault(f"skipped: {cell['error']}", []).append(at)
    return [f"<li>{_marked(text)} {_links(results, some)}</li>" for text, some in places.items()]


def _marked(text: str) -> str:
    return f'<span class="bad">{escape(text)}</span>' if text.startswith("ERR") else escape(text)


def _warnings(results: Mapping[str, Any]) -> list[str]:
    """Warnings that are no findings, which say it better."""
    places: dict[str, list[int]] = {}
    for at, cell in enumerate(results["cells"]):
        for text in cell["warnings"]:
            if not any(text.startswith(f"{name}: ") for name in cell.get("findings", ())):
                places.setdefault(text, []).append(at)
    return [f"<li>{escape(text)} {_links(results, some)}</li>" for text, some in places.items()]


def _links(results: Mapping[str, Any], places: Sequence[int]) -> str:
    named = [f'<a href="#cell-{at}">{escape(_name(results["cells"][at]))}</a>' for at in places[:_MOST]]
    more = [f"and {len(places) - _MOST} more"] if len(places) > _MOST else []
    return f'<span class="where">{", ".join([*named, *more])}</span>'


def _name(cell: Mapping[str, Any]) -> str:
    short = cell["short"]
    return f"{short['dataset']} {short['model']}: {short['defense']} against {short['attack']}, {cell['threat']}"
