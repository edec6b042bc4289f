"""Parts of a suite with their own numbers of samples and draws."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

pytestmark = pytest.mark.slow

SUITE = """
description = "Toys with little and much effort"
datasets = ["toy"]
models = ["toy-linear"]
limit = 40
eot = 2

[[parts]]
attacks = ["toy-sign:eps=0.05", "toy-sign:eps=0.2"]
defenses = ["toy-keep", "toy-dim"]

[[parts]]
attacks = ["toy-sign:eps=0.1", "toy-minimal"]
defenses = ["toy-keep", "toy-noise"]
limit = 20
eot = 4
score_draws = 3
threats = ["oblivious", "adaptive"]

[[parts]]
attacks = ["toy-sign:eps=0.1", "toy-minimal"]
defenses = ["toy-dim:factor=0.3"]
threats = ["oblivious", "adaptive"]
limit = 10
"""

Call = Callable[..., Called]


@pytest.fixture
def run(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Called, dict[str, Any]]]:
    """Runs the suite with flags and returns the call and the results."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    suite, target = tmp_path / "toys.toml", tmp_path / "r.json"
    suite.write_text(SUITE)

    def call_with(*flags: object) -> tuple[Called, dict[str, Any]]:
        files = ("--plugin", TOY, "--store", tmp_path / "store", "--export", target)
        called = call("matrix", "--suite", suite, *files, *flags)
        assert called.code == 0, called.err
        return called, json.loads(target.read_text())

    return call_with


Run = Callable[..., tuple[Called, dict[str, Any]]]


def test_each_row_is_of_its_own_samples(run: Run) -> None:
    called, results = run()
    boards = [[(row["defense"].split(":")[0], row["n"]) for row in board["rows"]] for board in results["leaderboards"]]
    assert [sorted(rows) for rows in boards] == [
        [("toy-dim", 40), ("toy-keep", 40)],
        [("toy-dim", 10), ("toy-keep", 20), ("toy-noise", 20)],
    ]
    assert "on 10 to 40 images of toy;" in called.err
    assert "n = 40\n" in called.out
    assert "n = 10 to 20\n" in called.out
    assert "toy-keep (n = 20)" in called.out
    assert results["run"]["n"] == {"toy:size=40": 40}


def test_worst_cases_and_intervals_are_of_the_rows_own_samples(run: Run) -> None:
    _, results = run()
    for board in results["leaderboards"]:
        for row in board["rows"]:
            cells = [cell for cell in results["cells"] if (cell["defense"], cell["n"]) == (row["defense"], row["n"])]
            worst = min(cell["robust_accuracy"] for cell in cells)
            assert row["worst_case"]["accuracy"] <= worst
            assert row["clean_accuracy"] == cells[0]["clean_accuracy"]
            assert row["worst_case"]["complete"]
            share = row["worst_case"]["accuracy"] * row["n"] * (3 if row["defense"].startswith("toy-noise") else 1)
            assert share == pytest.approx(round(share))


def test_draws_for_the_score_are_those_of_the_part(run: Run) -> None:
    _, results = run()
    draws = {cell["defense"].split(":")[0]: cell["robust_accuracy_draws"] for cell in results["cells"]}
    assert draws["toy-noise"]["n"] == 3
    assert draws["toy-keep"] is None
    assert "4 draws for each gradient" in results["run"]["threats"]["adaptive"]["how"]
    other, _ = run("--eot", 2, "--score-draws", 1)
    assert "8 in the store" not in other.err
    assert "2 draws for each gradient" in other.out


def test_options_replace_the_effort_of_all_parts(run: Run) -> None:
    called, results = run("--limit", 7)
    assert {cell["n"] for cell in results["cells"]} == {7}
    assert "(n = " not in called.out


def test_only_rows_of_the_same_samples_are_compared(run: Run, call: Call, tmp_path: Path) -> None:
    run()
    files = ("--store", tmp_path / "store")
    same = call("compare", "latest", "--defenses", "toy-keep", "toy-noise", *files)
    assert same.code == 0, same.err
    assert "toy-minimal" in same.out
    assert "eps=0.2" not in same.out, "of this attack, only 40 samples of the one defense are known"
    other = call("compare", "latest", "--defenses", "toy-keep", "toy-dim:factor=0.3", *files)
    assert other.code == 2, "20 samples are not compared with 10"


def test_example_images_are_of_the_samples_of_the_cell(run: Run, call: Call, tmp_path: Path) -> None:
    run()
    page = tmp_path / "page.html"
    shown = call("report", "latest", "--samples", 2, "--output", page, "--plugin", TOY, "--store", tmp_path / "store")
    assert shown.code == 0, shown.err
    assert "toy-noise (n = 20)" in page.read_text()


def test_a_dry_run_lists_the_cells_of_all_parts(call: Call, tmp_path: Path) -> None:
    suite = tmp_path / "toys.toml"
    suite.write_text(SUITE)
    plan = call("matrix", "--suite", suite, "--plugin", TOY, "--store", tmp_path / "store", "--dry-run")
    assert len(plan.out.splitlines()) == 4 + 8 + 4
