"""Models whose gradient is zero, one-sided or no number somewhere: attacked rightly, or the audit says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import Called

pytestmark = pytest.mark.slow

N, SIDE, EPS = 120, 8, 0.2

NETWORKS = """
import numpy as np, torch
from torch.nn import functional as F
w = torch.tensor(np.load({weights!r}))

class Network(torch.nn.Module):
    def __init__(self, before, scale=20.0, after=lambda z: z):
        super().__init__()
        self.before, self.scale, self.after = before, scale, after
    def forward(self, x):
        z = self.after((self.before(x).flatten(1) - 0.5) @ w * self.scale)
        return torch.stack([-z, z], 1)

def plain(): return Network(lambda x: x)
def clamp(): return Network(lambda x: x.clamp(0, 1))
def clip_levels(): return Network(lambda x: (x * 255).clamp(0, 255) / 255)
def relu(): return Network(F.relu)
def relu_of_the_rest(): return Network(lambda x: 1 - F.relu(1 - x))
def hardtanh(): return Network(lambda x: (F.hardtanh(2 * x - 1) + 1) / 2)
def half(): return Network(lambda x: x.half().clamp(0, 1).float())
def bfloat16(): return Network(lambda x: x.bfloat16().clamp(0, 1).float())
def cut(): return Network(lambda x: x.clamp(0.02, 0.98))
def root(): return Network(lambda x: x.sqrt().square())
def mask(): return Network(lambda x: torch.where((x > 0) & (x < 1), x, x.detach()))
def wide(): return Network(lambda x: x.clamp(0.04, 0.96))
def not_a_number(): return Network(lambda x: x + 0 * (x - x.detach()).abs().sqrt())
def rounded(): return Network(lambda x: x.round())
"""

DEFENSES = '''
from dataclasses import dataclass
from advbench.api import Defense, hookimpl

@dataclass(frozen=True)
class Clip(Defense):
    """Clips images that are in [0, 1] already."""
    name = "clip"
    differentiable = True
    def apply(self, images, rng): return images.clamp(0, 1)

@hookimpl
def register_defenses(register): register(Clip)
'''


@pytest.fixture
def evaluate(call: Callable[..., Called], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Evaluates a network on black and white images, or on grey ones; returns the results."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=SIDE * SIDE)
    w = (w / abs(w).sum()).astype("float32")
    np.save(tmp_path / "w.npy", w)
    side = np.sign(w) * np.where(rng.random((2 * N, w.size)) < 0.6, 1, -1)
    side = side[side @ w > 0][:N]
    for name, reach in (("extreme", 0.5), ("grey", 0.35)):
        images = (0.5 + reach * side).reshape(-1, SIDE, SIDE).astype("float32")
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.ones(len(side), int))
    (tmp_path / "nets.py").write_text(NETWORKS.format(weights=str(tmp_path / "w.npy")))

    (tmp_path / "clip_defense.py").write_text(DEFENSES)

    def run(
        network: str, *attacks: str, images: str = "extreme", defense: str = "none", flags: tuple[object, ...] = ()
    ) -> dict[str, Any]:
        data = f"npz:path={tmp_path / images}.npz,classes=2"
        target = tmp_path / "results.json"
        axes = ("--datasets", data, "--models", f"torch-module:build={tmp_path / 'nets.py'}:{network}")
        where = ("--store", tmp_path / "store", "--export", target, "-q")
        called = call("matrix", *axes, "--attacks", *attacks, "--defenses", defense, *where, *flags)
        assert called.code == 0, called.err
        return json.loads(target.read_text())  # type: ignore[no-any-return]

    return run


def _exact(tmp_path: Path, images: str, eps: float) -> float:
    """The robust accuracy of the linear model, by arithmetic."""
    w, x = np.load(tmp_path / "w.npy").astype("float64"), np.load(tmp_path / f"{images}.npz")["images"]
    x = x.reshape(len(x), -1).astype("float64")
    worst = np.where(w > 0, np.maximum(x - eps, 0), np.minimum(x + eps, 1))
    return float((((worst - 0.5) @ w) > 0).mean())


@pytest.mark.parametrize(
    "network",
    ["clamp", "clip_levels", "relu", "relu_of_the_rest", "hardtanh", "half", "bfloat16", "root", "mask"],
)
def test_one_sided_slopes_at_the_bounds_hide_nothing(
    network: str, evaluate: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    results = evaluate(network, f"fgsm:eps={EPS}", f"apgd:eps={EPS},steps=10")
    exact = _exact(tmp_path, "extreme", EPS)
    assert 0.2 < exact < 0.8
    for cell in results["cells"]:
        assert cell["clean_accuracy"] == 1
        assert abs(cell["robust_accuracy"] - exact) <= 1 / cell["n"] + 1e-9
        assert cell["findings"] == []


def test_a_defense_that_clips_hides_nothing_from_who_knows_it(
    evaluate: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    flags = ("--threats", "adaptive", "--plugin", tmp_path / "clip_defense.py")
    (cell,) = evaluate("plain", f"fgsm:eps={EPS}", defense="clip", flags=flags)["cells"]
    assert abs(cell["robust_accuracy"] - _exact(tmp_path, "extreme", EPS)) <= 1 / cell["n"] + 1e-9


@pytest.mark.parametrize("network", ["clamp", "relu", "mask"])
def test_pixels_that_reach_a_bound_on_the_way_can_come_back(
    network: str, evaluate: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    attack = f"pgd:eps={EPS},steps=12,step_size={EPS / 3}"
    (cell,) = evaluate(network, attack, images="grey")["cells"]
    (plain,) = evaluate("plain", attack, images="grey")["cells"]
    assert cell["robust_accuracy"] == plain["robust_accuracy"]


def test_a_clamp_that_cuts_off_grey_levels_is_followed_inside(evaluate: Callable[..., dict[str, Any]]) -> None:
    (cell,) = evaluate("cut", f"fgsm:eps={EPS}")["cells"]
    assert cell["robust_accuracy"] < 0.8
    assert cell["findings"] == []


def test_slopes_that_are_zero_at_the_bounds_alone_are_told(evaluate: Callable[..., dict[str, Any]]) -> None:
    assert "zero-gradients" in evaluate("wide", f"fgsm:eps={EPS}")["cells"][0]["findings"]


@pytest.mark.parametrize(("network", "criterion"), [("not_a_number", "nan-gradients"), ("rounded", "zero-gradients")])
def test_no_number_is_not_called_zero(network: str, criterion: str, evaluate: Callable[..., dict[str, Any]]) -> None:
    found = evaluate(network, f"fgsm:eps={EPS}")["cells"][0]["findings"]
    assert {name for name in found if "gradients" in name} == {criterion}


def test_a_loss_that_is_flat_is_told_although_another_attack_of_the_row_is_not(
    evaluate: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text(
        (tmp_path / "nets.py").read_text() + "\ndef sure(): return Network(lambda x: x, 1e5)\n"
    )
    results = evaluate("sure", f"fgsm:eps={EPS},engine=foolbox", f"apgd:eps={EPS},steps=10", images="grey")
    blind, sound = results["cells"]
    assert blind["robust_accuracy"] > sound["robust_accuracy"]
    assert "loss-without-slope" in blind["findings"]
    assert "loss-without-slope" not in sound["findings"]


def test_the_board_names_the_norm_that_is_minimised(call: Callable[..., Called]) -> None:
    axes = ("--datasets", "mnist-20", "--limit", 3, "--models", "mnist-cnn", "--defenses", "none")
    called = call("matrix", *axes, "--attacks", "fmn:norm=l1,steps=20")
    assert "median L1" in called.out
    assert "median L2" not in called.out
