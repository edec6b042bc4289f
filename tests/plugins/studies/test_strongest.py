"""Under adaptive attacks, PGD counts the stronger of PGD and APGD for each image."""

from __future__ import annotations

from typing import Any

import pytest

from advbench_studies.paper2019.evidence import Evidence, SuiteResults
from advbench_studies.paper2019.setting import ATTACKS, DATASETS, PROTOCOLS, AttackSetting

PGD = next(attack for attack in ATTACKS if attack.key == "pgd")
PROTOCOL = next(protocol for protocol in PROTOCOLS if protocol.key == "adaptive")
LABELS = [0, 1, 2, 3]


def record(attack: str, predictions: list[int], l2: float, draws: list[list[int]] | None = None) -> dict[str, Any]:
    """A stored cell of four images, of which the model classifies the last one wrongly."""
    clean = [0, 1, 2, 0]
    correct = [int(one == label) for one, label in zip(predictions, LABELS, strict=True)]
    random = {} if draws is None else {"robust_draws": draws, "clean_correct_draws": [[1, 1, 1, 0]] * len(draws)}
    return random | {
        "dataset": "mnist:split=test", "model": "mnist-cnn", "attack": attack, "threat": "adaptive",
        "defense": "jpeg:quality=90", "status": "ok", "n": 4, "labels": LABELS, "clean_predictions": clean,
        "clean_correct": [1, 1, 1, 0], "adversarial_predictions": predictions, "adversarial_correct": correct,
        "attacked_clean_predictions": clean, "attacked_predictions": predictions, "linf": [l2] * 4, "l2": [l2] * 4,
        "seconds": 1.0, "craft_seconds": 1.0,
    }  # fmt: skip


def evidence(*records: dict[str, Any]) -> Evidence:
    cells = [
        {key: one[key] for key in ("dataset", "model", "attack", "threat", "defense", "status", "n")}
        | {"robust_accuracy": 0.9, "clean_accuracy": 0.75, "robust_accuracy_ci95": [0, 1], "median_l2": 9.0}
        for one in records
    ]
    return Evidence([SuiteResults.of("paper-adaptive", {"cells": cells}, records)])


def of_jpeg(records: tuple[dict[str, Any], ...], attack: AttackSetting = PGD) -> dict[str, Any]:
    """The cell of JPEG, and what its images say."""
    view = evidence(*records).view(PROTOCOL)
    cell = view.cell(DATASETS[0], attack, "jpeg", {"quality": 90})
    outcomes = view.outcomes(DATASETS[0], attack, "jpeg", {"quality": 90})
    assert cell is not None and outcomes is not None
    return {
        "accuracy": cell["robust_accuracy"],
        "outcomes": outcomes.robust.tolist(),
        "median": cell["median_l2"],
        "confusion": view.confusion(DATASETS[0], attack, "jpeg", {"quality": 90}),
    }


def test_each_image_counts_with_the_attack_that_fools_the_model() -> None:
    found = of_jpeg((record("pgd:eps=0.3,search=none", [9, 1, 2, 3], 1.0), record("apgd:eps=0.3", [0, 8, 2, 3], 2.0)))
    assert (found["accuracy"], found["outcomes"]) == (0.25, [0, 0, 1, 0])
    assert found["median"] == 1.5, "of the two images that fool the model, one is PGD's and one is APGD's"
    assert (found["confusion"][0][9], found["confusion"][1][8]) == (1, 1)


def test_each_draw_of_a_random_defense_counts_by_itself() -> None:
    pgd = record("pgd:eps=0.3,search=none", [0, 1, 2, 3], 1.0, draws=[[1, 1, 1, 0], [0, 1, 1, 0]])
    apgd = record("apgd:eps=0.3", [0, 1, 2, 3], 2.0, draws=[[0, 1, 0, 0], [1, 1, 0, 0]])
    found = of_jpeg((pgd, apgd))
    assert (found["accuracy"], found["outcomes"]) == (pytest.approx(0.25), [0, 1, 0, 0])


def test_an_attack_that_failed_counts_for_nothing() -> None:
    pgd = record("pgd:eps=0.3,search=none", [9, 1, 2, 3], 1.0)
    failed = record("apgd:eps=0.3", [0, 8, 2, 3], 2.0) | {"status": "error", "error": "RuntimeError: x"}
    assert of_jpeg((pgd, failed))["outcomes"] == [0, 1, 1, 0]
