"""``advbench compare`` on the toy plugin."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import Called

from advbench.analysis.paired import mcnemar
from advbench.cli.compare_command import _component

pytestmark = pytest.mark.slow

Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def compare(call: Callable[..., Called], tmp_path: Path) -> Callable[..., Called]:
    return lambda *words: call("compare", "--store", tmp_path / "store", *words)


def cell(results: dict[str, Any], defense: str) -> dict[str, Any]:
    (found,) = (one for one in results["cells"] if one["defense"].split(":")[0] == defense)
    return found


def test_two_defenses_are_compared_sample_by_sample(toy: Toy, compare: Callable[..., Called]) -> None:
    _, results = toy(attacks=["toy-sign:eps=0.15"], defenses=["toy-keep", "toy-flip"])
    told = json.loads(compare("--defenses", "toy-keep", "toy-flip", "--format", "json").out)
    (row,) = told["rows"]
    assert row["first"] == cell(results, "toy-keep")["robust_accuracy"]
    assert row["second"] == cell(results, "toy-flip")["robust_accuracy"]
    assert row["difference"] == pytest.approx((row["only_second"] - row["only_first"]) / 40)
    assert row["p"] == mcnemar(row["only_first"], row["only_second"])
    assert row["only_first"] + row["only_second"] > 0


def test_several_attacks_have_a_row_each_and_one_for_the_worst_case(toy: Toy, compare: Callable[..., Called]) -> None:
    flags = ("--threats", "oblivious", "adaptive")
    toy(*flags, attacks=["toy-sign:eps={0.1,0.3}"], defenses=["toy-keep", "toy-dim", "toy-flip"])
    called = compare("--defenses", "toy-keep", "toy-flip")
    assert called.code == 0
    lines = [line.split() for line in called.out.splitlines() if "%" not in line]
    threats = [line[0] for line in lines if line and line[0] in ("oblivious", "adaptive", "worst")]
    assert threats == ["oblivious"] * 2 + ["adaptive"] * 2 + ["worst"]
    markdown = compare("--defenses", "toy-keep", "toy-flip", "--format", "markdown").out
    assert markdown.count("\n|") == 6
    assert "worst case" in markdown


def test_two_models_are_compared_sample_by_sample(toy: Toy, compare: Callable[..., Called]) -> None:
    models = ["toy-linear", "toy-linear:scale=9"]
    _, results = toy(attacks=["toy-sign", "toy-minimal"], defenses=["toy-flip"], models=models)
    shown = json.loads(compare("--models", *models, "--format", "json").out)
    assert (shown["first"], shown["second"]) == tuple(models)
    rows = {row["short"]["attack"]: row for row in shown["rows"]}
    assert set(rows) == {"toy-sign", "toy-minimal", "worst case"}
    for one in results["cells"]:
        side = "first" if one["short"]["model"] == "toy-linear" else "second"
        assert rows[one["short"]["attack"]][side] == one["robust_accuracy"]
    assert all("model" not in row for row in shown["rows"])


def test_two_attacks_are_compared_on_each_defense(toy: Toy, compare: Callable[..., Called]) -> None:
    attacks = ["toy-sign:eps=0.15", "toy-minimal"]
    _, results = toy("--threats", "oblivious", "adaptive", attacks=attacks, defenses=["toy-keep", "toy-flip"])
    rows = json.loads(compare("--attacks", "toy-sign", "toy-minimal", "--format", "json").out)["rows"]
    assert {(row["short"]["defense"], row["threat"]) for row in rows} == {
        (defense, threat) for defense in ("toy-keep", "toy-flip") for threat in ("oblivious", "adaptive", "worst case")
    }
    for row in rows:
        sides = [
            one["robust_accuracy"]
            for one in results["cells"]
            if (one["defense"], one["threat"]) == (row["defense"], row["threat"])
        ]
        assert sides in ([], [row["first"], row["second"]])
    printed = compare("--attacks", "toy-sign", "toy-minimal").out
    assert printed.split()[:4] == ["defense", "threat", "toy-sign", "toy-minimal"]
    assert printed.count("worst case") == 3, "two rows and the note"


def test_two_runs_are_compared_and_what_else_differs_is_told(toy: Toy, compare: Callable[..., Called]) -> None:
    runs = [toy("--score-draws", draws, defenses=["toy-dim", "toy-noise"])[1]["run"]["run"] for draws in (1, 3)]
    called = compare(*runs)
    assert called.code == 0
    assert "score_draws: 1 → 3" in called.out
    rows = json.loads(compare(*runs, "--format", "json").out)["rows"]
    assert [row["defense"].split(":")[0] for row in rows] == ["toy-dim", "toy-noise"]
    assert [row["difference"] for row in rows] == [0.0, 0.0]


def test_a_component_with_other_parameters_is_held_to_its_counterpart(toy: Toy, compare: Callable[..., Called]) -> None:
    first = toy(attacks=["toy-sign:eps={0.1,0.3}", "toy-minimal"], defenses=["toy-keep", "toy-dim:factor=0.5"])[1]
    second = toy(attacks=["toy-sign:eps={0.1,0.2}"], defenses=["toy-keep", "toy-dim:factor=0.8", "toy-flip"])[1]
    told = json.loads(compare("latest~1", "latest", "--format", "json").out)
    assert (told["first"], told["second"]) == (first["run"]["run"], second["run"]["run"])
    rows = {(row["short"]["attack"], row["short"]["defense"]): row for row in told["rows"]}
    assert set(rows) == {("toy-sign", "toy-keep"), ("toy-sign", "toy-dim → factor=0.8")}
    paired = rows["toy-sign", "toy-dim → factor=0.8"]
    assert paired["counterparts"] == {"defense": "toy-dim:factor=0.8"}
    for place, results in (("first", first), ("second", second)):
        (theirs,) = [
            cell["robust_accuracy"]
            for cell in results["cells"]
            if "toy-dim" in cell["defense"] and cell["attack"].startswith("toy-sign:eps=0.1")
        ]
        assert paired[place] == theirs
    assert sorted(told["differing"]) == [
        ["attack", "toy-minimal", "—"],
        ["attack", "toy-sign:eps=0.3", "—"],
        ["attack", "—", "toy-sign:eps=0.2"],
        ["defense", "—", "toy-flip"],
        ["defense toy-dim: factor", "0.5", "0.8"],
    ]


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("kmeans", "kmeans:clusters=16,iterations=10"),
        ("kmeans:clusters=16", "kmeans:clusters=16,iterations=10"),
        ("kmeans:clusters=50", "kmeans:clusters=50,iterations=10"),
        ("kmeans:iterations=10,clusters=50", "kmeans:clusters=50,iterations=10"),
        ("jpeg+kmeans", "jpeg:quality=75+kmeans:clusters=50,iterations=10"),
    ],
)
def test_a_defense_is_named_by_what_tells_it_apart(name: str, full: str) -> None:
    short = {
        "kmeans:clusters=16,iterations=10": "kmeans",
        "kmeans:clusters=50,iterations=10": "kmeans:clusters=50",
        "jpeg:quality=75+kmeans:clusters=50,iterations=10": "jpeg+kmeans:clusters=50",
    }
    cells = [{"defense": spec, "short": {"defense": text}} for spec, text in short.items()]
    assert _component({"run": "abc", "cells": cells}, "defense", name) == full


def test_runs_on_other_samples_have_nothing_in_common(toy: Toy, compare: Callable[..., Called]) -> None:
    runs = [toy("--limit", 30, "--seed", seed)[1]["run"]["run"] for seed in (1, 2)]
    called = compare(*runs)
    assert called.code == 2
    assert "have no finished cell in common, on the same samples" in called.error_line()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "RUN_A RUN_B, or RUN --defenses A B"),
        (["latest", "latest", "--defenses", "toy-keep", "toy-dim"], "RUN_A RUN_B, or RUN --defenses A B"),
        (["--defenses", "toy-keep", "toy-dmi"], "--defenses toy-dmi: is not in run"),
        (["--defenses", "toy-keep", "toy-dim"], "--defenses toy-dim: is one of several in run"),
        (["--defenses", "toy-keep", "toy-dim", "--models", "a", "b"], "or --models A B, or --attacks A B"),
        (["--models", "toy-linear", "toy-linar"], "--models toy-linar: is not in run"),
        (["--attacks", "toy-sign", "toy"], "--attacks toy: is not in run"),
        (["latest", "latest"], "latest: the same run, "),
        (["nope", "--defenses", "toy-keep", "toy-dim"], "'nope' names no run"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    toy: Toy, compare: Callable[..., Called], words: list[str], message: str
) -> None:
    toy(defenses=["toy-keep", "toy-dim:factor={0.3,0.6}"])
    called = compare(*words)
    assert called.code == 2
    assert message in called.error_line()


def test_runs_on_other_images_of_the_same_name_are_not_compared(call: Callable[..., Called], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (8, 1, 28, 28), np.uint8), np.arange(8)
    axes = ("--datasets", f"npz:path={tmp_path / 'd.npz'}", "--models", "mnist-cnn", "--attacks", "fgsm:eps={0.1,0.2}")
    for order in (slice(None), slice(None, None, -1)):
        np.savez(tmp_path / "d.npz", images=images[order], labels=labels[order])
        assert call("matrix", *axes, "--defenses", "none", "--store", tmp_path / "s").code == 0
    compared = call("compare", "latest~1", "latest", "--store", tmp_path / "s")
    assert compared.code == 2
    assert "have no finished cell in common, on the same samples" in compared.err
