"""Suites and flags together say what is evaluated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

from advbench.discovery.registry import Registry
from advbench.session.options import RunOptions
from advbench.session.suites import suite_of
from advbench.specs import load_suite

pytestmark = pytest.mark.slow

SUITE = """
description = "Toys"
datasets = ["toy"]
models = ["toy-linear"]
attacks = ["toy-sign:eps={0.1,0.2}"]
defenses = ["toy-keep", "toy-dim+toy-noise"]
limit = 12
seed = 4
"""


@pytest.fixture
def run(call: Callable[..., Called], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs a suite file with flags and returns the results."""
    suite = tmp_path / "toys.toml"
    suite.write_text(SUITE)

    def call_with(*flags: object) -> dict[str, Any]:
        target = tmp_path / "r.json"
        files = ("--plugin", TOY, "--store", tmp_path / "store", "--export", target)
        assert call("matrix", "--suite", suite, *files, *flags).code == 0
        return json.loads(target.read_text())  # type: ignore[no-any-return]

    return call_with


def test_a_suite_file_says_everything(run: Callable[..., dict[str, Any]]) -> None:
    results = run()
    assert [cell["short"]["attack"] for cell in results["cells"]] == ["toy-sign"] * 2 + ["toy-sign:eps=0.2"] * 2
    assert {cell["n"] for cell in results["cells"]} == {12}
    assert (results["run"]["name"], results["run"]["seed"], results["run"]["limit"]) == ("toys", 4, 12)


def test_flags_replace_parts_of_a_suite_and_its_limit_stays(run: Callable[..., dict[str, Any]]) -> None:
    results = run("--attacks", "toy-minimal", "--datasets", "toy:size=30", "--seed", 5)
    assert [cell["attack"] for cell in results["cells"]] == ["toy-minimal"] * 2
    assert {cell["n"] for cell in results["cells"]} == {12}
    assert results["run"]["seed"] == 5
    assert {cell["n"] for cell in run("--limit", 7)["cells"]} == {7}


def test_own_datasets_without_a_suite_count_whole(call: Callable[..., Called]) -> None:
    dry = call("matrix", "--datasets", "mnist-20", "--dry-run")
    assert "20 cells on 20 images of mnist-20" in dry.err
    assert "cells on 5,000 images of mnist-5k" in call("matrix", "--datasets", "mnist-5k", "--dry-run").err
    assert "30 cells on 100 images of mnist-5k" in call("matrix", "--dry-run").err


def test_own_axes_without_a_suite_are_attacked_with_ten_draws(
    call: Callable[..., Called], run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    def draws(*flags: object) -> tuple[int, str]:
        target = tmp_path / "draws.json"
        axes = ("--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--defenses", "toy-noise")
        files = ("--plugin", TOY, "--store", tmp_path / "store", "--export", target)
        called = call("matrix", *axes, "--threats", "adaptive", "--limit", 4, *files, *flags)
        assert called.code == 0
        return json.loads(target.read_text())["run"]["eot"], called.out

    ten, board = draws()
    assert ten == 10
    assert "10 draws for each gradient" in board
    assert draws("--eot", 2)[0] == 2
    assert run("--threats", "adaptive")["run"]["eot"] == 10
    suite = load_suite("quickstart")
    assert suite_of(suite, RunOptions(), Registry()).eot == 3
    assert suite_of(suite, RunOptions(suite="quickstart", attacks=("fgsm",)), Registry()).eot == 3


def test_the_command_in_the_footer_makes_the_same_run_again(
    call: Callable[..., Called], run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = run("--attacks", "toy-sign:eps={0.3,0.4}", "--limit", 5)
    words = first["run"]["command"].replace("'", "").split()[1:]
    target = tmp_path / "again.json"
    assert call(*words, "--store", tmp_path / "elsewhere", "--export", target).code == 0
    again = json.loads(target.read_text())
    assert again["run"]["run"] == first["run"]["run"]
    assert [cell["robust_accuracy"] for cell in again["cells"]] == [cell["robust_accuracy"] for cell in first["cells"]]


def test_a_plugin_file_given_twice_is_one(run: Callable[..., dict[str, Any]]) -> None:
    assert len(run("--plugin", TOY)["cells"]) == 4
