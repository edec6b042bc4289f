"""Defenses that reject images: what they score, with a suspicion that is known in closed form."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import toy_plugin
from tests.conftest import Called

from advbench.evaluation.plan.samples import pick_ids

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).parents[1] / "detecting_plugin.py"
Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def detecting(toy: Toy) -> Toy:
    """Runs a matrix on 200 of 400 images, with detectors that are fitted to the other 200."""

    def run(*flags: object, **axes: Any) -> tuple[Called, dict[str, Any]]:
        settings = {"datasets": ["toy:size=400"], "attacks": ["brighten"], "defenses": ["brightness"], **axes}
        return toy("--plugin", PLUGIN, "--limit", 200, "--fit-samples", 200, *flags, **settings)

    return run


def known(fpr: float) -> dict[str, dict[str, float]]:
    """The measures of ``brightness`` under ``brighten`` and ``dawn``, from the means of the images alone."""
    toy = toy_plugin.Toy(size=400)
    data, ids = toy.load(None), pick_ids(toy, 200, 0)  # type: ignore[no-untyped-call, arg-type]
    evaluated = torch.isin(data.ids, torch.tensor(ids))
    labels, model = data.labels[evaluated], toy_plugin.Linear(1.0)  # type: ignore[no-untyped-call]
    threshold = data.images[~evaluated].mean(dim=(1, 2, 3)).sort().values[math.ceil(201 * (1 - fpr)) - 1]
    clean = data.images[evaluated]
    brighter = (clean + 0.3).clamp(0, 1)
    measures = {}
    for name, attacked in (("brighten", brighter), ("dawn", (brighter * 255).round() / 255)):
        before, after = (model(images).argmax(dim=1) == labels for images in (clean, attacked))
        means, other = (images.mean(dim=(1, 2, 3)) for images in (clean, attacked))
        rejected, caught = means > threshold, other > threshold
        right = before & ~rejected
        withstood = {"brighten": after | caught, "dawn": after & ~caught}[name]
        measures[name] = {
            "clean_rate": rejected.double().mean(),
            "adversarial_rate": caught.double().mean(),
            "auroc": (other[:, None] > means).double().mean() + (other[:, None] == means).double().mean() / 2,
            "accuracy_rejected_wrong": (right & after & ~caught).double().mean(),
            "clean_accuracy": right.double().mean(),
            "robust_accuracy": (right & withstood).double().mean(),
        }
    return {name: {key: float(value) for key, value in row.items()} for name, row in measures.items()}


def test_rates_and_accuracies_are_those_of_the_known_suspicion(detecting: Toy, tmp_path: Path) -> None:
    called, results = detecting(
        *("--threats", "oblivious", "adaptive", "--export", tmp_path / "cells.csv", "--batch-size", 64),
        attacks=["brighten", "dawn"],
        defenses=["toy-keep", "brightness", "brightness:fpr=0.2", "toy-keep+brightness"],
    )
    assert called.code == 0, called.err
    expected = {"brightness": known(0.05), "brightness:fpr=0.2": known(0.2), "toy-keep+brightness": known(0.05)}
    assert expected["brightness:fpr=0.2"]["brighten"]["clean_rate"] > 0.1
    for cell in results["cells"]:
        name = cell["short"]["defense"]
        if name == "toy-keep":
            assert cell["rejection"] is None
            continue
        measured = {**cell, **cell["rejection"]}
        for key, value in expected[name][cell["short"]["attack"]].items():
            assert measured[key] == pytest.approx(value, abs=1e-12), (name, cell["attack"], cell["threat"], key)
    with (tmp_path / "cells.csv").open() as file:
        rows = {(row["attack"], row["threat"], row["defense"]): row for row in csv.DictReader(file)}
    row = next(row for key, row in rows.items() if key[1:] == ("oblivious", 'brightness:fpr=0.05,file=none,how=""'))
    assert float(row["rejection_auroc"]) == pytest.approx(expected["brightness"]["brighten"]["auroc"], abs=1e-12)
    headings = " ".join(called.out.split())
    rates = [expected[name]["brighten"]["clean_rate"] for name in ("brightness", "brightness:fpr=0.2")]
    assert f"rejected {100 * rates[0]:.1f}–{100 * rates[1]:.1f} %" in headings
    assert "Rejecting a clean image or a corruption is wrong" in headings


def test_an_image_that_fools_the_classifier_and_is_rejected_is_no_success(detecting: Toy) -> None:
    called, results = detecting(defenses=["toy-keep", "brightness"])
    assert called.code == 0, called.err
    plain, guarded = results["cells"]
    assert plain["attack_success_rate"] > 0.4
    assert guarded["attack_success_rate"] < 0.05


def test_draws_of_a_random_chain_reject_on_their_own(detecting: Toy) -> None:
    called, results = detecting("--score-draws", 3, defenses=["toy-noise+brightness"])
    assert called.code == 0, called.err
    (cell,) = results["cells"]
    assert cell["robust_accuracy_draws"]["n"] == 3
    assert 0 < cell["rejection"]["clean_rate"] < 0.15
    assert cell["rejection"]["accuracy_rejected_wrong"] < cell["robust_accuracy"]


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ("brightness+toy-keep+brightness:fpr=0.1", "'brightness' and 'brightness' both reject images; a chain has at"),
        ("centred+brightness", "'centred' classifies images, so the detector 'brightness' cannot stand behind it"),
    ],
)
def test_a_detector_in_the_wrong_place_is_a_usage_error(detecting: Toy, chain: str, message: str) -> None:
    called, _ = detecting(defenses=[chain])
    assert called.code == 2
    assert f"defense {chain!r}: {message}" in called.error_line()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "this suspicion always fails"),
        ("shape", "detector 'brightness' returned shape (200, 1) from suspicion(); expected shape (200,)"),
        ("bool", "detector 'brightness' returned torch.bool from suspicion(); expected floating-point numbers"),
        ("nan", "detector 'brightness' returned NaN or infinite numbers from suspicion()"),
        ("none", "defense 'brightness' returned NoneType from fit()"),
    ],
)
def test_a_detector_that_breaks_the_contract_is_named(detecting: Toy, how: str, message: str) -> None:
    called, results = detecting(defenses=[f"brightness:how={how}", "brightness"])
    assert called.code == 1
    broken, other = results["cells"]
    assert message in broken["error"]
    assert other["status"] == "ok"


@pytest.mark.parametrize(("how", "criterion"), [("batch", "batch-dependent"), ("global", "not-repeatable"), ("", None)])
def test_the_audit_compares_the_scores_of_a_detector_too(detecting: Toy, how: str, criterion: str | None) -> None:
    _, results = detecting("--threats", "oblivious", defenses=[f"brightness:how={how}" if how else "brightness"])
    found = {finding["criterion"] for finding in results["findings"]} & {"batch-dependent", "not-repeatable"}
    assert found == ({criterion} if criterion else set())
