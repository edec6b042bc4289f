"""Cells whose attack or defense needs more than the model gives are skipped with the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

from advbench.api import DataSources
from advbench.discovery.loading import discover
from advbench.discovery.registry import Registry
from advbench.evaluation.plan.build import build_plan, resolve_axes
from advbench.session.opening import CORE
from advbench.specs import Suite

NONE = "attack 'toy-sign' needs gradients, and model 'toy-linear' gives only"


@pytest.fixture
def registry() -> Registry:
    return discover(CORE, (TOY,), without=("*",))


@pytest.fixture
def reasons(registry: Registry, tmp_path: Path) -> Callable[..., dict[tuple[str, str, str], str]]:
    """Why the cells of a plan cannot be run, by attack, threat and defense; empty where they can."""

    def make(**changes: Any) -> dict[tuple[str, str, str], str]:
        axes: dict[str, Any] = {
            "datasets": ("toy",),
            "models": ("toy-linear",),
            "attacks": ("toy-sign", "toy-minimal"),
            "defenses": ("toy-keep", "toy-dim"),
            "threats": ("oblivious", "adaptive"),
        }
        plan = build_plan(resolve_axes(registry, Suite("s", **(axes | changes))), DataSources(tmp_path), "cpu")
        return {
            (cell.attack.name, cell.threat.name, cell.defense.parts[0].name): cell.skipped or cell.failed
            for cell in plan.cells
        }

    return make


def component(registry: Registry, kind: str, name: str) -> type:
    return registry.get(kind, name).component


@pytest.mark.parametrize(
    ("gives", "access", "needs", "expected"),
    [
        ("gradients", "gradients", "gradients", ""),
        ("scores", "gradients", "labels", f"{NONE} scores"),
        ("labels", "gradients", "labels", f"{NONE} labels"),
        ("labels", "scores", "labels", "attack 'toy-sign' needs scores, and model 'toy-linear' gives only labels"),
        ("labels", "labels", "labels", ""),
        ("labels", "labels", "scores", "defense 'toy-dim' needs scores, and model 'toy-linear' gives only labels"),
        (
            "weights",
            "labels",
            "labels",
            "ContractError: 'toy-linear' has gives = 'weights'; expected one of gradients, ",
        ),
    ],
)
def test_who_asks_for_more_than_the_model_gives_is_skipped(
    gives: str,
    access: str,
    needs: str,
    expected: str,
    reasons: Callable[..., dict[tuple[str, str, str], str]],
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(component(registry, "models", "toy-linear"), "gives", gives)
    monkeypatch.setattr(component(registry, "attacks", "toy-sign"), "access", access)
    monkeypatch.setattr(component(registry, "attacks", "toy-minimal"), "access", "nothing")
    monkeypatch.setattr(component(registry, "defenses", "toy-dim"), "needs", needs)
    found = reasons()
    for threat in ("oblivious", "adaptive"):
        assert found["toy-sign", threat, "toy-dim"].startswith(expected)
        assert bool(found["toy-sign", threat, "toy-dim"]) == bool(expected)
        by_defense = expected.startswith(("defense", "ContractError"))
        assert bool(found["toy-minimal", threat, "toy-dim"]) == by_defense
        assert bool(found["toy-minimal", threat, "toy-keep"]) == expected.startswith("ContractError")


def test_under_transfer_the_surrogate_is_asked(
    reasons: Callable[..., dict[tuple[str, str, str], str]], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = component(registry, "models", "toy-linear")
    monkeypatch.setattr(model, "gives", property(lambda self: "labels" if self.scale == 1 else "gradients"))
    found = reasons(threats=("oblivious", "transfer"), surrogate=("toy-linear:scale=2",))
    assert found["toy-sign", "oblivious", "toy-keep"] == f"{NONE} labels"
    assert not found["toy-sign", "transfer", "toy-keep"]
    monkeypatch.setattr(model, "gives", property(lambda self: "labels" if self.scale == 2 else "gradients"))
    found = reasons(threats=("oblivious", "transfer"), surrogate=("toy-linear:scale=2",))
    assert not found["toy-sign", "oblivious", "toy-keep"]
    assert found["toy-sign", "transfer", "toy-keep"] == f"{NONE} labels"


LABELS_ONLY = """
import dataclasses, torch
from advbench.api import Attack, Model, hookimpl

@dataclasses.dataclass(frozen=True)
class Hidden(Model):
    \"\"\"A linear classifier that gives labels alone, and no gradient.\"\"\"
    name = "hidden"
    self_contained = True
    image_shape = (1, 4, 4)
    num_classes = 3
    gives = "labels"
    def load(self):
        return Labels()
    def weights_digest(self):
        return "fixed"

class Labels(torch.nn.Module):
    def forward(self, images):
        weights = torch.randn(3, 16, generator=torch.Generator().manual_seed(3))
        return torch.eye(3)[((images.detach().flatten(1) - 0.5) @ weights.T).argmax(dim=1)]

@dataclasses.dataclass(frozen=True)
class Guess(Attack):
    \"\"\"Inverts the images that are classified correctly.\"\"\"
    name = "guess"
    self_contained = True
    access = "labels"
    def craft(self, model, images, goal, rng, fitted=None):
        correct = model(images).argmax(dim=1) == goal.labels
        return torch.where(correct[:, None, None, None], 1 - images, images)

@hookimpl
def register_models(register):
    register(Hidden)

@hookimpl
def register_attacks(register):
    register(Guess)
"""


def test_a_model_that_gives_labels_alone_is_attacked_by_those_who_need_no_more(
    toy: Callable[..., tuple[Called, dict[str, Any]]], tmp_path: Path
) -> None:
    plugin = tmp_path / "labels_only.py"
    plugin.write_text(LABELS_ONLY)
    called, results = toy("--plugin", plugin, models=["hidden"], attacks=["toy-sign", "guess"], defenses=["toy-keep"])
    assert called.code == 0
    sign, guess = results["cells"]
    assert (sign["status"], sign["error"]) == (
        "skipped",
        "attack 'toy-sign' needs gradients, and model 'hidden' gives only labels",
    )
    assert guess["status"] == "ok"
    assert guess["robust_accuracy"] < guess["clean_accuracy"]
    assert guess["findings"] == []
