"""A reproduction as Markdown and as JSON."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Mapping, Sequence
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
from advbench_studies.paper2019.verdict import NOT_RUN

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
        """Renders the verdicts, then the tables of all protocols, the distortions and the provenance, folded."""
        blocks = ["\n".join(f"- {escape(sentence)}" for sentence in tally(results))]
        blocks += _claims(results)
        for protocol in results["protocols"]:
            blocks += _folded(f"Accuracy, {protocol['title']}, in %", _accuracy(protocol))
        blocks += _folded("Median distortion, over the images that fool the undefended model", _distortion(results))
        sentence, commands = missing_weights(results)
        if commands:
            blocks += [escape(sentence), "\n".join(["```bash", *commands, "```"])]
        lines = problems(results)
        if lines:
            blocks.append("\n".join(f"- {escape(line)}" for line in lines))
        blocks.append(escape(READING))
        blocks += _folded("Commands, settings and versions", [_facts(results)])
        return "\n\n".join(blocks) + "\n"


def _folded(summary: str, blocks: Sequence[str]) -> list[str]:
    """Blocks that a reader unfolds; browsers show the summary alone at first."""
    return [f"<details markdown>\n<summary>{html.escape(summary)}</summary>", *blocks, "</details>"]


def _facts(results: Mapping[str, Any]) -> str:
    return "\n".join(f"- {label}: {code(text)}" for label, text in facts(results))


def _accuracy(protocol: Mapping[str, Any]) -> list[str]:
    """What the protocol means, and a table for each dataset; with the dataset in a column it would be too wide."""
    reduced = f" Not as in the paper: {'; '.join(protocol['reduced'])}." if protocol["reduced"] else ""
    blocks = [escape(protocol["meaning"] + reduced)]
    by_dataset: dict[str, list[list[str]]] = {}
    for line in accuracies(protocol):
        row = [escape(line.attack), *(_entry(entry) for entry in line.entries)]
        by_dataset.setdefault(line.dataset, []).append(row)
    for dataset, rows in by_dataset.items():
        blocks.append(_table(rows, [escape(dataset), *defense_titles(protocol)], texts=1))
    far = [_named(line, texts) for line, texts in distances(protocol)]
    if far:
        blocks += [f"**{DISTANCES}**", _table(far, ["attack", "dataset", *defense_titles(protocol)], texts=2)]
    return blocks


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
    return [_table(rows, headers, texts=2)]


def _claims(results: Mapping[str, Any]) -> list[str]:
    """The verdicts in a table; then, folded, each claim's criterion and numbers."""
    protocols = results["protocols"]
    headers = ["", "the paper's claim", *(protocol["title"] for protocol in protocols)]
    rows = [
        [str(claim["number"]), escape(claim["text"]), *(_mark(claim[protocol["key"]]) for protocol in protocols)]
        for claim in results["claims"]
    ]
    table = tabulate(rows, headers, tablefmt="pipe", colalign=["left"] * len(headers), disable_numparse=True)
    details = [block for claim in results["claims"] for block in _details(claim, protocols)]
    return [table, *_folded("When each claim holds, and the numbers behind its verdicts", details)]


def _mark(judged: Mapping[str, Any]) -> str:
    verdict: str = judged["verdict"]
    return verdict if verdict == NOT_RUN else f"**{verdict}**"


def _details(claim: Mapping[str, Any], protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """A claim with its criterion, why verdicts differ, and the numbers; protocols with the same numbers in one line."""
    by_text: dict[str, list[str]] = {}
    for protocol in protocols:
        by_text.setdefault(_numbers(claim[protocol["key"]]), []).append(protocol["title"])
    lines = [
        f"- {escape('all' if len(titles) == len(protocols) else '; '.join(titles))}: {text}"
        for text, titles in by_text.items()
    ]
    about = f"**{claim['number']}. {escape(claim['text'])}** {escape(claim['criterion'])}"
    return [about, *([escape(claim["difference"])] if claim["difference"] else []), "\n".join(lines)]


def _numbers(judged: Mapping[str, Any]) -> str:
    """A verdict with its numbers, or with what it lacks."""
    lacks = [f"Lacks: {judged['lacks']}"] if judged["lacks"] else []
    parts = [*judged["measured"], *lacks, *filter(None, [judged["reason"]])]
    return ". ".join([_mark(judged), *(escape(part.rstrip(".")) for part in parts)]) + "."


def _table(rows: list[list[str]], headers: list[str], texts: int) -> str:
    """A table whose first columns are text and whose others are numbers; without rows, the headings alone."""
    alignment = ["left" if column < texts else "right" for column in range(len(headers))]
    return tabulate(rows or [[""] * len(headers)], headers, tablefmt="pipe", colalign=alignment, disable_numparse=True)
