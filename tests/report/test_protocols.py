"""The protocols one, mean and any of random defenses: below boards in every text format, and in a cell's details."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import Called

Toy = Callable[..., tuple[Called, dict[str, Any]]]
Call = Callable[..., Called]

FLAGS = ("--score-draws", 5, "--threats", "oblivious", "adaptive")


def percent(cell: dict[str, Any], protocol: str) -> str:
    return f"{100 * cell['protocols'][protocol]['robust_accuracy']:.1f}"


def test_every_format_shows_the_protocols_below_the_board(toy: Toy, call: Call, tmp_path: Path) -> None:
    pages = [tmp_path / "board.md", tmp_path / "page.html"]
    called, results = toy(*FLAGS, "--export", pages[0], "--export", pages[1], defenses=["toy-keep", "toy-noise"])
    numbers = [
        [percent(cell, protocol) for protocol in ("one", "mean", "any")]
        for cell in results["cells"]
        if cell["protocols"]
    ]
    assert len(numbers) == 2
    plain = call("leaderboard", "latest", "--format", "plain", "--store", tmp_path / "store").out
    for text in (called.out, plain, *(page.read_text() for page in pages)):
        assert "over 5 draws" in text
        for row in numbers:
            assert re.search(r"\D+".join(map(re.escape, row)), re.sub(r"<.*?>|\x1b\[\d+m", " ", text)), row
    assert "<details><summary>Robust accuracy" in pages[0].read_text()


def test_details_of_a_cell_have_each_protocol(toy: Toy, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    _, results = toy(*FLAGS, "--export", page, defenses=["toy-keep", "toy-noise"])
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])  # type: ignore[index]
    for cell, shown in zip(results["cells"], data["cells"], strict=True):
        facts = dict(shown["facts"])
        if cell["protocols"] is None:
            assert "protocol any" not in facts
        else:
            assert facts["protocol any"].startswith(f"robust {percent(cell, 'any')} %")


def test_one_draw_has_no_protocols(toy: Toy, tmp_path: Path) -> None:
    called, _ = toy("--export", tmp_path / "board.md", defenses=["toy-keep", "toy-noise"])
    assert "Robust accuracy in % over" not in called.out + (tmp_path / "board.md").read_text()
