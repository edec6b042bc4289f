"""Markdown, plain text and CSV of a real run agree with its JSON when parsed."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from advbench.report.markdown import Markdown
from advbench.report.plain import plain_text

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>"
MEASURES = ("n", "clean_accuracy", "robust_accuracy", "attack_success_rate", "median_linf", "median_l2", "seconds")


@pytest.fixture(scope="module")
def results(real_run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((real_run / "board.json").read_text())
    return loaded


def expected_rows(results: dict[str, Any]) -> dict[str, list[str]]:
    """The values that a leaderboard must show for each defense, from the JSON."""
    (board,) = results["leaderboards"]
    cells = {(cell["defense"], cell["threat"], cell["attack"]): cell for cell in results["cells"]}
    rows = {}
    for row in board["rows"]:
        here = [cells[row["defense"], column["threat"], column["attack"]] for column in board["columns"]]
        worst, (low, high) = row["worst_case"]["accuracy"], row["worst_case"]["ci95"]
        shares = [row["clean_accuracy"], *(cell["robust_accuracy"] for cell in here), worst]
        rows[row["defense"]] = [*(f"{100 * share:.1f}" for share in shares), f"{100 * low:.1f}–{100 * high:.1f}"]
    return rows


def named(expected: dict[str, list[str]], shown: str) -> list[str]:
    """The defense whose full spec starts with the name of a row."""
    (full_spec,) = [spec for spec in expected if re.fullmatch(f"{re.escape(shown)}([:,].*)?", spec)]
    return expected.pop(full_spec)


def parsed_table(text: str) -> list[list[str]]:
    """The rows of a Markdown table, unescaped."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    lines = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)[1:]
    return [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", line)] for line in lines]


def test_every_number_of_the_markdown_file_equals_the_json(real_run: Path, results: dict[str, Any]) -> None:
    expected = expected_rows(results)
    for name, *numbers in parsed_table((real_run / "board.md").read_text()):
        assert numbers == named(expected, name)
    assert not expected


def test_every_number_of_the_plain_text_equals_the_json(results: dict[str, Any]) -> None:
    expected = expected_rows(results)
    text = plain_text(results)
    assert text.isascii()
    for line in re.split(r"\n-+ [- ]+\n", text)[1].split("\n\n")[0].splitlines():
        name, *numbers = line.split()
        assert [number.strip("*") for number in numbers] == [n.replace("–", "-") for n in named(expected, name)]
    assert not expected


def test_every_value_of_the_csv_file_equals_the_json(real_run: Path, results: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO((real_run / "board.csv").read_text())))
    assert len(rows) == len(results["cells"]) == 24
    for row, cell in zip(rows, results["cells"], strict=True):
        assert [row[key] for key in ("dataset", "model", "attack", "threat", "defense", "status")] == [
            cell[key] for key in ("dataset", "model", "attack", "threat", "defense", "status")
        ]
        for key in MEASURES:
            assert (float(row[key]) if row[key] else None) == cell[key], key
        assert [float(row[f"robust_accuracy_ci95_{end}"]) for end in ("low", "high")] == cell["robust_accuracy_ci95"]
        assert row["stochastic"] == str(cell["stochastic"])


def test_names_and_messages_from_plugins_are_escaped_in_markdown(results: dict[str, Any]) -> None:
    text = json.dumps(results, ensure_ascii=False)
    for word in ("jpeg", "deepfool", "mnist-20"):
        text = text.replace(word, HOSTILE)
    hostile = json.loads(text)
    hostile["cells"][0].update(status="error", error=f"{HOSTILE}\n# a heading [link](javascript:alert(1))")
    written = Markdown().render(hostile)
    assert "<img" not in written
    html = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(written)
    assert "<img" not in html
    assert "href" not in html
    assert "<h1" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
