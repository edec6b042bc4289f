"""Suites with parts: what a dataset is evaluated with may differ inside one suite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

from advbench.discovery.studies import discover_studies
from advbench.specs import load_suite, shipped_suites

pytestmark = pytest.mark.slow

SUITE = """
description = "Toys in two parts"
models = ["toy-linear"]
attacks = ["toy-sign", "toy-minimal"]
limit = 12

[[parts]]
datasets = ["toy"]
defenses = ["toy-keep", "toy-dim"]

[[parts]]
datasets = ["toy:size=30"]
models = ["toy-linear", "toy-linear:scale=2"]
defenses = ["toy-keep", "toy-dim:factor=0.2", "toy-noise"]
"""

Call = Callable[..., Called]
Run = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def run(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a suite file with flags and returns the call and the results, if any."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")

    def call_with(*flags: object, content: str = SUITE) -> tuple[Called, dict[str, Any]]:
        suite, target = tmp_path / "toys.toml", tmp_path / "r.json"
        suite.write_text(content)
        target.unlink(missing_ok=True)
        files = ("--plugin", TOY, "--store", tmp_path / "store", "--export", target)
        called = call("matrix", "--suite", suite, *files, *flags)
        return called, json.loads(target.read_text()) if target.exists() else {}

    return call_with


def coordinates(results: dict[str, Any]) -> list[tuple[str, ...]]:
    return [tuple(cell["short"][key] for key in ("dataset", "model", "attack", "defense")) for cell in results["cells"]]


def test_the_plan_is_the_union_of_the_parts_products_in_order(run: Run) -> None:
    called, results = run()
    assert called.code == 0
    attacks = ("toy-sign", "toy-minimal")
    assert coordinates(results) == [
        *(("toy", "toy-linear", attack, defense) for attack in attacks for defense in ("toy-keep", "toy-dim")),
        *(
            ("toy:size=30", model, attack, defense)
            for model in ("toy-linear", "toy-linear:scale=2")
            for attack in attacks
            for defense in ("toy-keep", "toy-dim:factor=0.2", "toy-noise")
        ),
    ]
    assert {cell["n"] for cell in results["cells"]} == {12}
    assert "2 parts of 4 + 12 = 16 cells on 12 images of toy, 12 images of toy:size=30; 0 in the store" in called.err


def test_each_dataset_and_model_has_a_board_with_the_defenses_of_its_part(run: Run) -> None:
    _, results = run()
    boards = {(board["dataset"], board["model"]): board["rows"] for board in results["leaderboards"]}
    assert {key: len(rows) for key, rows in boards.items()} == {
        ("toy:size=40", "toy-linear:scale=1"): 2,
        ("toy:size=30", "toy-linear:scale=1"): 3,
        ("toy:size=30", "toy-linear:scale=2"): 3,
    }


def test_a_cell_of_two_parts_is_one_and_the_size_line_says_so(run: Run) -> None:
    parts = '\n[[parts]]\ndatasets = ["toy"]\ndefenses = ["toy-keep"]\n'
    called, results = run(content=SUITE + parts)
    assert len(results["cells"]) == 16
    assert "3 parts of 4 + 12 + 2, less 2 that occur twice, = 16 cells" in called.err


def test_defenses_that_meet_different_attacks_stand_on_different_boards(run: Run) -> None:
    content = """
datasets = ["toy"]
models = ["toy-linear"]
[[parts]]
attacks = ["toy-sign", "toy-minimal"]
defenses = ["toy-keep"]
[[parts]]
attacks = ["toy-sign:eps=0.2"]
defenses = ["toy-dim", "toy-noise"]
"""
    called, results = run(content=content)
    assert called.code == 0
    boards = [[row["defense"].split(":")[0] for row in board["rows"]] for board in results["leaderboards"]]
    assert [sorted(rows) for rows in boards] == [["toy-keep"], ["toy-dim", "toy-noise"]]
    assert all(row["worst_case"]["complete"] for board in results["leaderboards"] for row in board["rows"])
    assert called.out.count("worst case") == 2


def test_the_run_is_shown_and_resumed_like_any_other(run: Run, call: Call, tmp_path: Path) -> None:
    first, results = run()
    again, _ = run()
    assert "all 16 cells come from the store" in again.err
    shown = call("leaderboard", "latest", "--store", tmp_path / "store")
    assert shown.out == first.out == again.out
    words = results["run"]["command"].split()[1:]
    assert call(*words, "--store", tmp_path / "store").out == first.out


def test_datasets_and_models_pick_the_parts_that_have_them(run: Run, call: Call, tmp_path: Path) -> None:
    _, results = run("--datasets", "toy:size=40")
    assert {row[0] for row in coordinates(results)} == {"toy"}, "the spec may be written in full"
    assert {row[3] for row in coordinates(results)} == {"toy-keep", "toy-dim"}
    command = results["run"]["command"]
    _, results = run("--models", "toy-linear:scale=2")
    assert {row[:2] for row in coordinates(results)} == {("toy:size=30", "toy-linear:scale=2")}
    words = [word.strip("'") for word in command.split()[1:]]
    assert "--datasets toy:size=40" in command
    again = tmp_path / "again.json"
    assert call(*words, "--store", tmp_path / "store", "--export", again).code == 0
    assert {row[0] for row in coordinates(json.loads(again.read_text()))} == {"toy"}


def test_other_axes_are_replaced_in_each_part(run: Run) -> None:
    _, results = run("--attacks", "toy-sign:eps=0.2", "--defenses", "toy-keep", "--limit", 5, "--seed", 3)
    assert coordinates(results) == [
        ("toy", "toy-linear", "toy-sign:eps=0.2", "toy-keep"),
        ("toy:size=30", "toy-linear", "toy-sign:eps=0.2", "toy-keep"),
        ("toy:size=30", "toy-linear:scale=2", "toy-sign:eps=0.2", "toy-keep"),
    ]
    assert {cell["n"] for cell in results["cells"]} == {5}
    assert results["run"]["seed"] == 3


def test_a_dry_run_lists_the_cells_of_every_part(run: Run) -> None:
    called, _ = run("--dry-run")
    assert len(called.out.splitlines()) == 16


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--datasets", "toy:size=7"], "suite 'toys' has no dataset 'toy:size=7'; it has: toy, toy:size=30"),
        (["--datasets", "toyy"], "unknown dataset 'toyy'; did you mean 'toy'?"),
        (["--datasets", "toy", "toy:size=40"], "are the same after defaults"),
        (
            ["--datasets", "toy", "--models", "toy-linear:scale=2"],
            "suite 'toys' has no model 'toy-linear:scale=2' for toy; it has: toy-linear",
        ),
        (
            ["--attacks", "toy-sing"],
            "suite 'toys', the part of toy: unknown attack 'toy-sing'; did you mean 'toy-sign'?",
        ),
    ],
)
def test_flags_that_do_not_fit_a_suite_with_parts(run: Run, flags: list[str], message: str) -> None:
    called, _ = run(*flags)
    assert called.code == 2
    assert message in called.error_line()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ('[[parts]]\natacks = ["toy-sign"]', "part 1: unknown key 'atacks'; did you mean 'attacks'?"),
        ("[[parts]]\n[[parts]]\nseed = 3", "part 2: unknown key 'seed'; there are: datasets, models, attacks, "),
        ("[[parts]]\nseed = 3", "the other keys are for the whole suite"),
        ("[[parts]]\nlimit = 0", "part 1: limit must be a whole number of at least 1"),
        ('[[parts]]\nattacks = "toy-sign"', "part 1: attacks must be a list of specs"),
        ("[parts]\nlimit = 3", "parts must be tables, each starting with a line [[parts]]"),
        ("parts = []", "parts must be tables"),
        ("[[parts]]\ndatasets = []", "suite 'toys', the part of no dataset: no datasets selected"),
        ("[[prats]]", "unknown key 'prats'; did you mean 'parts'?"),
    ],
)
def test_parts_that_cannot_be_read(run: Run, parts: str, message: str) -> None:
    top = 'datasets = ["toy"]\nmodels = ["toy-linear"]\nattacks = ["toy-sign"]\ndefenses = ["toy-keep"]\n'
    called, _ = run(content=f"{top}{parts}\n")
    assert called.code == 2
    assert message in called.error_line()


@pytest.mark.parametrize("name", [*shipped_suites(), *discover_studies().names("suites")])
def test_every_suite_of_advbench_can_be_read_and_says_what_it_is(name: str) -> None:
    suite = load_suite(name, discover_studies())
    assert suite.description
    assert all(getattr(part, axis) for part in suite.products for axis in ("datasets", "models", "attacks", "defenses"))


def test_an_alias_stands_for_one_component_in_all_parts(run: Run) -> None:
    parts = "\n".join(
        f'[[parts]]\ndatasets = ["toy"]\nmodels = ["toy-linear"]\nattacks = ["toy-sign"]\ndefenses = [{defenses}]'
        for defenses in ('"toy-keep", "mine=toy-dim:factor=0.2"', '"mine=toy-dim:factor=0.4"')
    )
    called, _ = run(content=parts)
    assert called.code == 2
    message = "'mine' stands for 'toy-dim:factor=0.2' in one part and for 'toy-dim:factor=0.4' in another"
    assert message in called.error_line()
    called, _ = run(content=parts.replace("0.4", "0.2"))
    assert called.code == 0
