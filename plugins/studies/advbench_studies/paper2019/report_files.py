"""A reproduction as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tabulate import tabulate

from advbench.api import Reporter
from advbench.results import code, escape
from advbench_studies.paper2019.report_layout import (
    DISTANCES,
    READING,
    Entry,
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

__all__ = ["PaperJson", "PaperMarkdown"]


@dataclasses.dataclass(frozen=True)
class PaperJson(Reporter):
    """The whole reproduction: tables, claims with their checks, and every suite's results."""

    name = "paper-json"
    suffix = ".json"

    def render(self, results: Mapping[str, Any]) -> str:
        """Renders the whole structure."""
        return json.dumps(results, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


@dataclasses.dataclass(frozen=True)
class PaperMarkdown(Reporter):
    """The reproduction as GitHub-flavoured Markdown."""

    name = "paper-markdown"
    suffix = ".md"

    def render(self, results: Mapping[str, Any]) -> str:
        """Renders the tables of all protocols, the distortions, the claims and their provenance."""
        blocks = [escape(" ".join(tally(results)))]
        for protocol in results["protocols"]:
            blocks += _accuracy(protocol)
        blocks += _distortion(results)
        blocks += _claims(results)
        sentence, commands = missing_weights(results)
        if commands:
            blocks += [escape(sentence), "\n".join(["```bash", *commands, "```"])]
        lines = problems(results)
        if lines:
            blocks.append("\n".join(f"- {escape(line)}" for line in lines))
        blocks += [escape(READING), "\n".join(f"- {label}: {code(text)}" for label, text in facts(results))]
        return "\n\n".join(blocks) + "\n"


def _accuracy(protocol: Mapping[str, Any]) -> list[str]:
    headers = ["attack", "dataset", *defense_titles(protocol)]
    rows = [
        [escape(line.attack), escape(line.dataset), *(_entry(entry) for entry in line.entries)]
        for line in accuracies(protocol)
    ]
    far = [_named(line, texts) for line, texts in distances(protocol)]
    further = [f"**{DISTANCES}**", _table(far, headers, texts=2)] if far else []
    reduced = f" Not as in the paper: {'; '.join(protocol['reduced'])}." if protocol["reduced"] else ""
    return [
        f"**Accuracy, {escape(protocol['title'])}, in %**",
        escape(protocol["meaning"] + reduced),
        _table(rows, headers, texts=2),
        *further,
    ]


def _named(line: Line, texts: list[str]) -> list[str]:
    return [escape(line.attack), escape(line.dataset), *map(escape, texts)]


def _entry(entry: Entry) -> str:
    text = f"**{escape(entry.text)}**" if entry.best else escape(entry.text)
    return f"{text}<br>{escape(entry.interval)}" if entry.interval else text


def _distortion(results: Mapping[str, Any]) -> list[str]:
    headers = ["attack", "dataset"]
    for protocol in oblivious(results):
        headers += [f"{protocol['title']}<br>{norm}" for norm in ("L2", "L∞")]
    rows = [_named(line, texts) for line, texts in distortions(results)]
    return [
        "**Median distortion, over the images that fool the undefended model**",
        _table(rows, headers, texts=2),
    ]


def _claims(results: Mapping[str, Any]) -> list[str]:
    protocols = results["protocols"]
    headers = ["", "the paper's claim, and when it holds here", *(protocol["title"] for protocol in protocols)]
    # Without the padding that lines columns up: texts of this length would widen every line to the longest.
    rows = [
        [
            str(claim["number"]),
            "<br>".join(
                [escape(claim["text"]), f"*{escape(claim['criterion'])}*", *filter(None, [escape(claim["difference"])])]
            ),
            *(_verdict(claim[protocol["key"]]) for protocol in protocols),
        ]
        for claim in results["claims"]
    ]
    lines = [headers, [":--"] * len(headers), *rows]
    return ["**The paper's claims**", "\n".join(f"| {' | '.join(line)} |" for line in lines)]


def _verdict(judged: Mapping[str, Any]) -> str:
    texts = [*judged["measured"], judged["reason"]]
    lines = [f"**{escape(judged['verdict'])}**", *(escape(text) for text in texts if text)]
    if judged["lacks"]:
        lines.append(f"lacks: {escape(judged['lacks'])}")
    return "<br>".join(lines)


def _table(rows: list[list[str]], headers: list[str], texts: int) -> str:
    """A table whose first columns are text and whose others are numbers; without rows, the headings alone."""
    alignment = ["left" if column < texts else "right" for column in range(len(headers))]
    return tabulate(rows or [[""] * len(headers)], headers, tablefmt="pipe", colalign=alignment, disable_numparse=True)
