"""The built-in components under the adaptive threat: what an attacker who knows the defense achieves on digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import Called

pytestmark = pytest.mark.slow(minutes=1)

BROKEN = ("jpeg", "gaussian", "kmeans", "tvm")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Batches this small only wait for more threads."""
    torch.set_num_threads(1)


@pytest.fixture
def matrix(call: Callable[..., Called], tmp_path: Path) -> Callable[..., tuple[Called, dict[str, Any]]]:
    """Runs a matrix on embedded digits; returns the call and its results."""

    def run(*flags: object) -> tuple[Called, dict[str, Any]]:
        target = tmp_path / "results.json"
        called = call(
            "matrix", "--datasets", "mnist-5k", "--models", "mnist-cnn", "--store", tmp_path / "store",
            "--export", target, *flags,
        )  # fmt: skip
        return called, json.loads(target.read_text())

    return run


def accuracies(results: dict[str, Any], attack: str, threat: str) -> dict[str, float]:
    """Robust accuracy by defense."""
    assert all(cell["status"] == "ok" for cell in results["cells"])
    return {
        cell["defense"].split(":")[0]: cell["robust_accuracy"]
        for cell in results["cells"]
        if (cell["attack"].split(":")[0], cell["threat"]) == (attack, threat)
    }


def test_one_board_shows_defenses_that_undo_minimal_attacks_fall_to_one_who_knows_them(
    matrix: Callable[..., tuple[Called, dict[str, Any]]],
) -> None:
    called, results = matrix(
        "--limit", 40, "--attacks", "deepfool", "pgd:eps=0.3,steps=40", "--defenses", "none", *BROKEN,
        "--threats", "oblivious", "adaptive", "--eot", 2,
    )  # fmt: skip
    adaptive = accuracies(results, "pgd", "adaptive")
    assert all(adaptive[defense] <= 0.05 for defense in BROKEN), adaptive
    assert accuracies(results, "deepfool", "oblivious")["jpeg"] > 0.5
    assert len(results["leaderboards"]) == 1
    assert called.out.count("mnist-5k · mnist-cnn · oblivious and adaptive") == 1


def test_more_draws_for_a_gradient_make_the_attack_no_weaker(
    matrix: Callable[..., tuple[Called, dict[str, Any]]],
) -> None:
    found = {}
    for eot in (1, 20):
        _, results = matrix(
            "--limit", 60, "--attacks", "pgd:eps=0.12,steps=10", "--defenses", "kmeans:clusters=4",
            "--threats", "adaptive", "--eot", eot, "--score-draws", 3,
        )  # fmt: skip
        found[eot] = accuracies(results, "pgd", "adaptive")["kmeans"]
    assert 0 < found[1] < 1, "an attack that nothing or everything withstands shows nothing"
    assert found[20] <= found[1] + 0.05, "both vary by up to .03"


def test_images_of_an_ensemble_transfer_better_than_those_of_another_model(
    matrix: Callable[..., tuple[Called, dict[str, Any]]],
) -> None:
    surrogates = ("mnist-cnn-robust", 'mixed=ensemble:of="mnist-cnn | mnist-cnn-robust"')
    flags = ("--limit", 40, "--attacks", "fgsm:eps=0.25", "deepfool", "--defenses", "none", "jpeg")
    called, results = matrix(*flags, "--threats", "transfer", "--surrogate", *surrogates)
    assert called.code == 0, called.err
    fgsm = {
        (cell["short"]["surrogate"], cell["short"]["defense"]): cell["robust_accuracy"]
        for cell in results["cells"]
        if cell["attack"].startswith("fgsm")
    }
    assert fgsm["mixed", "none"] < fgsm["mnist-cnn-robust", "none"] - 0.1
    (board,) = results["leaderboards"]
    heads = [(column["attack"].partition(":")[0], column["surrogate"].partition(":")[0]) for column in board["columns"]]
    names = ("mnist-cnn-robust", "ensemble")
    assert heads == [(attack, name) for attack in ("fgsm", "deepfool") for name in names]
    for row in board["rows"]:
        cells = [cell["robust_accuracy"] for cell in results["cells"] if cell["defense"] == row["defense"]]
        assert row["worst_case_under"]["transfer"]["accuracy"] == row["worst_case"]["accuracy"] <= min(cells)
    assert called.out.count("on mixed") == 2
    again, _ = matrix(*flags, "--threats", "transfer", "--surrogate", *surrogates)
    assert "all 8 cells come from the store" in again.err
    alone, _ = matrix(*flags, "--threats", "transfer", "--surrogate", "mnist-cnn-robust")
    assert "all 4 cells come from the store" in alone.err


def test_an_ensemble_is_attacked_as_its_members_are(matrix: Callable[..., tuple[Called, dict[str, Any]]]) -> None:
    twice = {name: f'ensemble:of="{name} | {name}"' for name in ("none", "jpeg:quality=50")}
    mixed = 'ensemble:of="tvm:iterations=2 | jpeg:quality=50",rule=votes'
    called, results = matrix(
        "--limit", 20, "--attacks", "pgd:eps=0.15,steps=8", "--threats", "adaptive", "--eot", 2,
        "--defenses", *twice, *twice.values(), mixed,
    )  # fmt: skip
    found = {cell["short"]["defense"]: cell["robust_accuracy"] for cell in results["cells"]}
    assert {cell["status"] for cell in results["cells"]} == {"ok"}
    for alone, ensemble in twice.items():
        assert 0 < found[alone] == found[ensemble] < 1, found
    assert found[mixed] < 1
    names = [line.split()[0] for line in called.out.splitlines() if line.strip().startswith("ensemble")]
    assert len(names) == 3
    assert 'ensemble:of="tvm:iterations=2 | jpeg:quality=50",rule=votes ' in called.out, "names without defaults"
