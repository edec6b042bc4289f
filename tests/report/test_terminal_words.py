"""Boards in a terminal break names after separators, and words never."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from advbench.report import print_leaderboards

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("width", [80, 100, 120])
def test_no_word_of_a_name_is_broken(real_run: Path, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    text = (real_run / "board.json").read_text().replace('"tvm"', '"jpeg:quality=50+cw:learning_rate=0.05,steps=100"')
    results: dict[str, Any] = json.loads(text.replace("deepfool:steps=50", "deepfool:steps=50,learning_rate=0.005"))
    console = Console(width=width)
    print_leaderboards(console, results, "table")
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    words = set(re.split(r"[\s,:+]+", re.sub(r"\d\d:\d\d:\d\d", "", shown)))  # without the time of the run
    assert {"quality=50", "learning_rate=0.05", "steps=100"} <= words
    assert not {"learning_", "rate=0.05", "steps=", "quality=", "50", "learning"} & words
