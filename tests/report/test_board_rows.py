"""Leaderboards whose rows are all models with their defenses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import TOY, Called

from advbench.analysis.board_rows import with_rows

Run = Callable[..., tuple[Called, dict[str, Any]]]
MODELS = ("toy-linear", "toy-linear:scale=2")


def test_models_as_rows_are_the_same_cells_on_one_board(toy: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    called, results = toy("--rows", "model", "--export", page, models=MODELS)
    assert called.code == 0
    (board,) = results["leaderboards"]
    assert board["model"] is None
    assert {(row["model"].partition(",")[0], row["defense"].partition(":")[0]) for row in board["rows"]} == {
        (f"toy-linear:scale={scale}", defense) for scale in (1, 2) for defense in ("toy-keep", "toy-dim")
    }
    plain = toy(models=MODELS)[1]
    assert plain["cells"] == results["cells"]
    by_row = {(b["model"], row["defense"]): row["worst_case"] for b in plain["leaderboards"] for row in b["rows"]}
    assert {(row["model"], row["defense"]): row["worst_case"] for row in board["rows"]} == by_row
    assert with_rows(plain, "model")["leaderboards"] == results["leaderboards"]
    assert "toy-linear:scale=2 · toy-dim" in called.out
    text = page.read_text()
    assert 'data-model="toy-linear:scale=2"' in text
    assert "model · defense" in text


def test_rows_of_models_with_other_attacks_stay_apart(call: Callable[..., Called], tmp_path: Path) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_text(
        'rows = "model"\ndatasets = ["toy"]\ndefenses = ["toy-keep"]\n'
        '[[parts]]\nmodels = ["toy-linear"]\nattacks = ["toy-sign"]\n'
        '[[parts]]\nmodels = ["toy-linear:scale=2"]\nattacks = ["toy-sign:eps=0.2"]\n'
    )
    target = tmp_path / "results.json"
    assert call("matrix", "--suite", suite, "--plugin", TOY, "--export", target).code == 0
    boards = json.loads(target.read_text())["leaderboards"]
    assert [len(board["rows"]) for board in boards] == [1, 1]
    assert {board["model"] for board in boards} == {None}


def test_a_stored_run_is_shown_with_either_rows(toy: Run, call: Callable[..., Called], tmp_path: Path) -> None:
    toy(models=MODELS)
    for rows, count in (("model", 1), ("defense", 2)):
        called = call("leaderboard", "latest", "--rows", rows, "--store", tmp_path / "store")
        assert called.code == 0
        assert called.out.count("clean") - called.out.count("clean and") >= count
        assert ("model · defense" in called.out) == (rows == "model")
    toy("--rows", "model", models=MODELS)
    page = tmp_path / "page.html"
    for flags, merged in (((), True), (("--rows", "defense"), False)):
        stored = ("latest", "--store", tmp_path / "store", *flags)
        assert ("model · defense" in call("leaderboard", *stored).out) == merged
        assert call("report", *stored, "--samples", 0, "--output", page).code == 0
        assert ("model · defense" in page.read_text()) == merged
    assert call("leaderboard", "latest", "--rows", "attack", "--store", tmp_path / "store").code == 2
