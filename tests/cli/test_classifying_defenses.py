"""Defenses that classify, and defenses that change the shape of images, in whole runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

pytestmark = pytest.mark.slow

VOTING = Path(__file__).parent.parent / "voting_plugin.py"

Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.mark.usefixtures("quick_workers")
def test_a_vote_over_flips_is_attacked_scored_and_stored(toy: Toy) -> None:
    threats = ("--threats", "oblivious", "adaptive")
    defenses = ("toy-keep", "flip-vote", "toy-dim+flip-vote", "flip-vote+toy-noise")
    called, results = toy("--plugin", VOTING, *threats, "--jobs", 1, defenses=defenses)
    assert called.code == 0, called.err
    assert [cell["status"] for cell in results["cells"]] == ["ok"] * 8
    again, repeated = toy("--plugin", VOTING, *threats, "--batch-size", 7, defenses=defenses)
    assert "8 in the store, 0 to do" in again.err
    measured = [cell["robust_accuracy"] for cell in results["cells"]]
    assert measured == [cell["robust_accuracy"] for cell in repeated["cells"]]
    _, others = toy("--plugin", VOTING, *threats, "--batch-size", 7, defenses=defenses, store="other")
    assert measured == [cell["robust_accuracy"] for cell in others["cells"]], "the batch size changes nothing"


def test_a_model_of_another_shape_is_attacked_behind_the_defense_that_makes_it(toy: Toy) -> None:
    called, results = toy(
        *("--plugin", VOTING, "--threats", "oblivious", "adaptive"),
        *("--surrogate", "toy-linear", "--threats", "oblivious", "adaptive", "transfer"),
        models=("toy-linear", "wide"),
        defenses=("toy-keep", "widen", "flip-vote+widen"),
        attacks=("toy-sign",),
    )
    assert called.code == 0, called.err
    cells = {(cell["model"], cell["threat"], cell["defense"]): cell for cell in results["cells"]}
    reasons = {
        (model.partition(":")[0], threat, defense): cell["error"]
        for (model, threat, defense), cell in cells.items()
        if cell["status"] == "skipped"
    }
    keep = "toy-keep"
    own = "wide takes images of (1, 4, 8), toy has (1, 4, 4)"
    returned = "toy-linear takes images of (1, 4, 4), defense {!r} returns (1, 4, 8) for toy"
    assert reasons[("wide", "oblivious", keep)] == reasons[("wide", "adaptive", keep)] == own
    assert reasons[("wide", "oblivious", "widen")] == f"{own}, so the undefended model cannot be attacked"
    assert reasons[("toy-linear", "adaptive", "widen")] == returned.format("widen")
    assert reasons[("toy-linear", "oblivious", "flip-vote+widen")] == returned.format("flip-vote+widen")
    done = {
        (model.partition(":")[0], threat, defense)
        for (model, threat, defense), cell in cells.items()
        if cell["status"] == "ok"
    }
    assert {
        ("wide", "adaptive", "widen"),
        ("wide", "adaptive", "flip-vote+widen"),
        ("wide", "transfer", "widen"),
    } <= done
    # The wide model reads every second column: behind the defense it is the toy model on the toy images.
    plain = cells["toy-linear:scale=1", "adaptive", keep]
    assert cells["wide", "adaptive", "widen"]["robust_accuracy"] == plain["robust_accuracy"]


def test_a_forecast_includes_what_a_vote_takes(toy: Toy) -> None:
    called, _ = toy(
        "--plugin",
        VOTING,
        "--dry-run",
        "--threats",
        "adaptive",
        defenses=("flip-vote", "widen"),
        models=("wide", "toy-linear"),
    )
    assert called.code == 0
    assert "will take" in called.err


HARD = """
from dataclasses import dataclass
import torch
from advbench.api import Defense, hookimpl, log_shares

@dataclass(frozen=True)
class HardVote(Defense):
    "A vote over three shifted copies, which has no gradient."
    name = "hard-vote"
    votes = 3
    def classify(self, network, images, rng, fitted=None):
        votes = [network(torch.roll(images, shift, 3)).argmax(dim=1) for shift in (-1, 0, 1)]
        return log_shares(sum(torch.nn.functional.one_hot(vote, 10) for vote in votes))

@hookimpl
def register_defenses(register): register(HardVote)

class NoGradient(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(784, 10, bias=False)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(10, 784, generator=torch.Generator().manual_seed(0)))
    def forward(self, images):
        with torch.no_grad():
            return self.linear(images.flatten(1))

def labels(images):
    return images.reshape(len(images), -1).argmax(1) % 10
"""


def test_attacks_without_gradients_need_none_of_a_defense_that_classifies(
    call: Callable[..., Called], tmp_path: Path
) -> None:
    plugin, target = tmp_path / "hard.py", tmp_path / "results.json"
    plugin.write_text(HARD)
    models = ("mnist-cnn", f"torch-module:build={plugin}:NoGradient", f"function:predict={plugin}:labels,classes=10")
    called = call(
        *("matrix", "--plugin", plugin, "--datasets", "mnist-20", "--limit", 3, "--models", *models),
        *("--attacks", "noise:queries=3", "square:eps=0.2,queries=10", "rays:queries=20", "pgd:steps=2"),
        *("--defenses", "hard-vote", "smoothing:samples=5", 'ensemble:of="median | jpeg",rule=votes'),
        *("--threats", "adaptive", "--eot", 2, "--export", target),
    )
    assert called.code == 1, called.err
    states = {"ok": 0, "error": 0, "skipped": 0}
    for cell in json.loads(target.read_text())["cells"]:
        states[cell["status"]] += 1
        if cell["status"] == "error":
            assert cell["attack"].startswith("pgd"), cell["error"]
            assert "gradient" in cell["error"]
    # The function gives labels alone, to which square and PGD do not apply; PGD fails without a gradient.
    assert called.code == 1
    assert states == {"ok": 26, "error": 4, "skipped": 6}
