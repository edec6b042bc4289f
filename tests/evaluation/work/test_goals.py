"""Targeted attacks in a run: which targets an attack gets, and by what its success is judged."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import Called
from tests.toy_plugin import Linear, Toy

from advbench.api import Goal
from advbench.contracts.goals import choose_targets

pytestmark = pytest.mark.slow

Run = Callable[..., tuple[Called, dict[str, Any]]]
PLUGIN = ("--plugin", Path(__file__).with_name("goal_plugin.py"))
IDS = tuple(range(100, 140))


def toy_logits() -> tuple[torch.Tensor, torch.Tensor]:
    """The toy model's logits for the toy images, and their labels."""
    data = Toy().load(None)
    return Linear(1.0)(data.images).detach(), data.labels


def targets(policy: str, ids: tuple[int, ...] = IDS, seed: int = 0) -> list[int]:
    logits, labels = toy_logits()
    rows = torch.tensor([number - 100 for number in ids])
    goal = choose_targets(policy, labels[rows], lambda: logits[rows], ids, seed)
    assert goal.targets is not None
    return goal.targets.tolist()


def test_every_policy_picks_another_class_than_the_label() -> None:
    logits, labels = toy_logits()
    others = logits.scatter(1, labels[:, None], float("nan"))
    assert targets("next") == ((labels + 1) % 3).tolist()
    assert targets("second") == others.nan_to_num(-99).argmax(1).tolist()
    assert targets("least-likely") == others.nan_to_num(99).argmin(1).tolist()
    assert targets("1") == [-1 if label == 1 else 1 for label in labels.tolist()]
    drawn = targets("random")
    assert all(target != label and 0 <= target < 3 for target, label in zip(drawn, labels.tolist(), strict=True))
    assert set(zip(labels.tolist(), drawn, strict=True)) == {(i, j) for i in range(3) for j in range(3) if i != j}


def test_random_targets_depend_on_the_seed_and_the_sample_alone() -> None:
    assert targets("random", IDS[7:9]) == targets("random")[7:9]
    assert targets("random", seed=1) != targets("random")


def test_a_goal_is_reached_where_its_margin_is_positive() -> None:
    logits, labels = toy_logits()
    for goal in (Goal(labels), Goal(labels, (labels + 1) % 3)):
        assert torch.equal(goal.reached(logits), goal.margin(logits) > 0)
        rows = torch.tensor([3, 1])
        assert torch.equal(goal[rows].margin(logits[rows]), goal.margin(logits)[rows])


def test_targeted_cells_report_what_they_reached(toy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("GOAL_LOG", str(log))
    attacks = ("aim", "aim:goal=least-likely", "aim:goal=1", "aim:minimal=true,goal=next")
    sheet = tmp_path / "cells.csv"
    called, results = toy(
        *PLUGIN,
        "--export",
        sheet,
        "--batch-size",
        7,
        attacks=attacks,
        defenses=("toy-keep",),
        datasets=("toy:size=30",),
    )
    assert called.code == 0, called.err
    cells = {cell["short"]["attack"]: cell for cell in results["cells"]}
    assert [cells[name]["goal"] for name in attacks] == ["untargeted", "least-likely", "1", "next"]
    assert [cells[name]["target_success_rate"] for name in attacks] == [None, 1.0, 1.0, 1.0]
    labels = toy_logits()[1][:30]
    clean = Linear(1.0)(Toy(30).load(None).images).argmax(1) == Toy(30).load(None).labels
    kept = int((clean & (Toy(30).load(None).labels == 1)).sum())  # samples of class 1 are not attacked
    assert cells["aim:goal=1"]["robust_accuracy"] == pytest.approx(kept / 30)
    assert cells["aim:goal=least-likely"]["robust_accuracy"] == 0
    assert 0 < cells["aim:minimal=true,goal=next"]["median_linf"] <= 1
    assert cells["aim:minimal=true,goal=next"]["warnings"] == []
    asked = {tuple(map(int, line.split())) for line in log.read_text().splitlines()}
    assert not {row for row in asked if row[1] == row[2]}, "a target is never the label"
    assert len(labels) == 30
    assert "target 100.0 %" in called.out
    with sheet.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["goal"], row["target_success_rate"]) for row in rows[:2]] == [
        ("untargeted", ""),
        ("least-likely", "1.0"),
    ]


@pytest.mark.usefixtures("quick_workers")
def test_the_batch_size_and_jobs_change_nothing(toy: Run) -> None:
    attacks = ("aim:eps=0.05,goal=random", "aim:eps=0.05,goal=2")
    one = toy(*PLUGIN, "--batch-size", 40, attacks=attacks, store="one")[1]
    two = toy(*PLUGIN, "--batch-size", 3, "--jobs", 2, attacks=attacks, store="two")[1]
    for first, second in zip(one["cells"], two["cells"], strict=True):
        assert first["target_success_rate"] == second["target_success_rate"] != None  # noqa: E711
        assert first["robust_accuracy"] == second["robust_accuracy"]


def test_success_that_an_attack_throws_away_is_judged_by_its_goal(toy: Run) -> None:
    # With this eps, the untargeted attack breaks every sample, but not all can reach the least likely class.
    results = toy(*PLUGIN, attacks=("aim:eps=0.03,goal=least-likely",), defenses=("toy-keep",))[1]
    (cell,) = results["cells"]
    assert cell["target_success_rate"] < 1 - cell["robust_accuracy"]
    assert "success-thrown-away" not in cell["findings"]


def test_only_attacks_of_one_goal_are_compared(toy: Run) -> None:
    attacks = ("toy-sign:eps=0.05", "aim:eps=0.05,goal=least-likely")
    results = toy(*PLUGIN, attacks=attacks, defenses=("toy-keep",))[1]
    assert not [
        cell["findings"] for cell in results["cells"] if "iterative-weaker-than-single-step" in cell["findings"]
    ]
    (row,) = results["leaderboards"][0]["rows"]
    assert row["worst_case"]["accuracy"] <= min(cell["robust_accuracy"] for cell in results["cells"])


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ("furthest", "goal=furthest: must be one of untargeted, random, next, second, least-likely or a class number"),
        ("-1", "goal=-1: must be one of"),
        ("1.5", "goal=1.5: must be one of"),
    ],
)
def test_a_goal_that_is_none_is_a_usage_error(toy: Run, goal: str, message: str) -> None:
    called = toy(*PLUGIN, attacks=(f"aim:goal={goal}",))[0]
    assert called.code == 2
    assert message in called.error_line()


def test_a_class_that_does_not_exist_skips_the_cells(toy: Run) -> None:
    called, results = toy(*PLUGIN, attacks=("toy-sign", "aim:goal=3"), defenses=("toy-keep",))
    assert called.code == 0
    skipped = results["cells"][1]
    assert skipped["status"] == "skipped"
    assert skipped["error"] == "attack 'aim:goal=3': goal=3: there are only the classes 0 to 2"
    assert toy(*PLUGIN, attacks=("aim:goal=3",), defenses=("toy-keep",))[0].code == 2


def test_a_class_that_all_samples_have_is_an_error_with_a_reason(toy: Run) -> None:
    label = Toy(1).load(None).labels.item()
    called, results = toy(*PLUGIN, attacks=(f"aim:goal={label}",), defenses=("toy-keep",), datasets=("toy:size=1",))
    assert called.code == 1
    assert re.search(r"attacks no sample, since all have the target class as their label", results["cells"][0]["error"])


def test_a_targeted_attack_keeps_the_contract(call: Callable[..., Called], monkeypatch: pytest.MonkeyPatch) -> None:
    for goal in ("untargeted", "random", "0", "9", "least-likely"):
        called = call("check", *PLUGIN, f"aim:goal={goal}")
        assert called.code == 0, called.out


def test_a_target_may_be_a_class_of_the_model_that_no_image_has(call: Any, tmp_path: Path) -> None:
    images = np.zeros((6, 1, 28, 28), np.uint8)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(6) % 3)
    axes = ("--datasets", f"npz:path={tmp_path / 'few.npz'}", "--models", "mnist-cnn", "--defenses", "none")
    called = call("matrix", *axes, "--attacks", "pgd:eps=0.3,goal=9", "pgd:eps=0.3,goal=10", "--dry-run")
    assert called.code == 0, called.err
    assert "1 to do, 1 skipped" in called.err
    assert "to do" in called.out.splitlines()[0]
