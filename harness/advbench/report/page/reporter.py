"""The complete page."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from advbench.api.reporter import Reporter
from advbench.printable import json_text
from advbench.report.board import make_boards
from advbench.report.charts import eps_charts, query_charts, scatter_charts, sweep_charts
from advbench.report.footer import READING, attack_settings, provenance, run_title
from advbench.report.page.boards import board_section
from advbench.report.page.cells import cell_payload
from advbench.report.page.charts import chart_figure
from advbench.report.page.escaping import escape, printable_data
from advbench.report.page.messages import messages_section
from advbench.report.page.text import breakable
from advbench.report.sweeps import with_sweep_names

__all__ = ["Html"]


@dataclasses.dataclass(frozen=True)
class Html(Reporter):
    """One self-contained page with leaderboards, charts and the details of every cell."""

    name = "html"
    suffix = ".html"

    def render(self, results: Mapping[str, Any]) -> str:
        """Renders the page; ``results["details"]``, if present, has the details of single cells."""
        results = {**results, "cells": with_sweep_names(results["cells"])}
        script = _static("report.js")
        allowed = "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{allowed}'"
        body = "\n".join([_header(results), _controls(), _main(results), _dialog(), _payload(results)])
        return (
            "<!DOCTYPE html>\n"
            '<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{escape(run_title(results))} · advbench</title>\n"
            f"<style>{_static('report.css')}</style></head>\n"
            f"<body>{body}\n<script>{script}</script></body></html>\n"
        )


def _header(results: Mapping[str, Any]) -> str:
    run, cells = results["run"], results["cells"]
    failed = sum(cell["status"] == "error" for cell in cells)
    counts = [
        ", ".join(f"{n:,} images of {escape(_short(results, 'dataset', name))}" for name, n in run["n"].items()),
        _several(len(cells), "cell"),
        *([f'<a class="bad" href="#messages">{_several(failed, "failure")}</a>'] if failed else []),
        f'<a href="#messages">{_findings(len(results.get("findings", ())))}</a>',
    ]
    return (
        '<header><div><p class="brand">advbench</p>'
        f"<h1>{escape(run_title(results))}</h1>"
        f"<p>{' · '.join(counts)} · {escape(run['created'][:10])}</p></div>"
        '<button type="button" id="theme" hidden>Theme: auto</button></header>'
    )


def _short(results: Mapping[str, Any], kind: str, spec: str) -> str:
    return next((str(cell["short"][kind]) for cell in results["cells"] if cell[kind] == spec), spec)


def _several(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _findings(count: int) -> str:
    return f"{_several(count, 'finding')} of the sanity checks" if count else "sanity checks: no findings"


def _controls() -> str:
    """The filters, which the script fills and shows; they stay hidden without it."""
    fields = (("dataset", "Dataset"), ("model", "Model"), ("threat", "Threat"), ("family", "Defense family"))
    selects = "".join(
        f'<label>{title} <select data-filter="{name}"><option value="">all</option></select></label>'
        for name, title in fields
    )
    search = '<label>Search <input type="search" data-filter="text" placeholder="defense…"></label>'
    noscript = "<noscript><p>Sorting, filtering and the details of single cells need JavaScript.</p></noscript>"
    return f'{noscript}<form id="filters" hidden>{selects}{search}<output id="shown"></output></form>'


def _main(results: Mapping[str, Any]) -> str:
    boards = "\n".join(
        board_section(board, leaderboard, results)
        for board, leaderboard in zip(make_boards(results), results["leaderboards"], strict=True)
    )
    reading = f'<p class="note">{escape(READING)}</p>'
    return f"<main>{boards}{reading}{_charts(results)}{messages_section(results)}{_about(results)}</main>"


def _charts(results: Mapping[str, Any]) -> str:
    parts = []
    for title, charts in (
        ("Clean accuracy against worst case", scatter_charts(results)),
        ("Accuracy against the size of perturbations", eps_charts(results)),
        ("Sweeps", sweep_charts(results)),
        ("Attack success against queries", query_charts(results)),
    ):
        if charts:
            parts.append(f'<h2>{title}</h2><div class="charts">{"".join(map(chart_figure, charts))}</div>')
    return f'<section id="charts">{"".join(parts)}</section>' if parts else ""


def _about(results: Mapping[str, Any]) -> str:
    """The provenance of the results."""
    facts = [(label, f"<code>{escape(text)}</code>") for label, text in provenance(results)]
    attacks = "<br>".join(f"<code>{breakable(escape(spec))}</code>" for spec in attack_settings(results))
    threats = {cell["threat"] for cell in results["cells"]}
    run = results["run"]
    plugins = ", ".join(
        f"{plugin['name']} ({plugin['distribution']} {plugin['version']})" for plugin in run.get("plugins", ())
    )
    facts += [("attacks", attacks)]
    facts += [("plugins", escape(plugins))] if plugins else []
    for name, threat in ((name, run["threats"][name]) for name in run["threats"] if name in threats):
        caveat = threat["caveat"]
        facts.append((f"threat {escape(name)}", escape(f"{threat['meaning']}. {caveat[:1].upper()}{caveat[1:]}.")))
    rows = "".join(f"<dt>{label}</dt><dd>{text}</dd>" for label, text in facts)
    return f'<section id="about"><h2>Provenance</h2><dl class="facts">{rows}</dl></section>'


def _dialog() -> str:
    return (
        '<dialog id="cell" aria-labelledby="cell-title"><div class="bar"><h2 id="cell-title"></h2><nav>'
        '<button type="button" id="previous" aria-label="previous cell">←</button>'
        '<button type="button" id="next" aria-label="next cell">→</button>'
        '<button type="button" id="close" aria-label="close">✕</button></nav></div>'
        '<div id="cell-body"></div></dialog>'
    )


def _payload(results: Mapping[str, Any]) -> str:
    """The details of single cells, embedded as JSON data for the script."""
    text = json_text(printable_data(cell_payload(results)), separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="data">{text}</script>'


@cache
def _static(name: str) -> str:
    return (resources.files("advbench.report.page") / "static" / name).read_text("utf-8")
