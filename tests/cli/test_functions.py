"""Functions in a file as models that give labels or scores alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

pytestmark = pytest.mark.slow

SOURCE = """
import numpy as np, torch
from pathlib import Path
weights = torch.randn(3, 16, generator=torch.Generator().manual_seed(3)).numpy()
FILE = Path(__file__).with_name("shift.txt")

def logits(images): return (images.reshape(len(images), -1) - 0.5) @ weights.T
def labels(images): return logits(images).argmax(axis=1)
def probabilities(images):
    shares = np.exp(logits(images))
    return shares / shares.sum(axis=1, keepdims=True)
def shifted(images): return logits(images) + [int(FILE.read_text()), 0, 0]
def noisy(images, rng): return (logits(images) + rng.normal(3).numpy()).argmax(axis=1)
def fails(images): raise ValueError("no model here")
def out(images): return labels(images) + 2
def two(images, other): return images
class Classifier:
    def predict(self, images): return labels(images)
classifier = Classifier()
network = torch.nn.Linear(1, 1)
class Labels(torch.nn.Module):
    def forward(self, images): return torch.from_numpy(labels(images.numpy()))
"""

Run = Callable[..., tuple[Called, dict[tuple[str, str, str], dict[str, Any]]]]


@pytest.fixture
def run(call: Callable[..., Called], tmp_path: Path) -> Run:
    """Evaluates models of the file; returns the call, and the cells by model, attack and defense."""
    (tmp_path / "predict.py").write_text(SOURCE)

    def make(*models: str, attacks: tuple[str, ...] = ("noise:eps=0.1",), flags: tuple[object, ...] = ()) -> Any:
        target = tmp_path / "results.json"
        target.unlink(missing_ok=True)
        named = [
            f"m{number}={model.replace('FILE', str(tmp_path / 'predict.py'))}" for number, model in enumerate(models)
        ]
        axes = (
            "--datasets",
            "toy",
            "--models",
            *named,
            "--attacks",
            *attacks,
            "--defenses",
            "none",
            "toy-keep+toy-dim",
        )
        where = ("--plugin", TOY, "--store", tmp_path / "store", "--export", target, "--limit", 10, "-q")
        called = call("matrix", *axes, *where, "--threats", "adaptive", *flags)
        cells = json.loads(target.read_text())["cells"] if target.exists() else []
        return called, {tuple(cell["short"][axis] for axis in ("model", "attack", "defense")): cell for cell in cells}

    return make


def test_attacks_get_what_functions_give(run: Run) -> None:
    attacks = ("noise:eps=0.1", "rays:queries=30", "square:eps=0.1,queries=5", "fgsm:eps=0.1")
    models = (
        "toy-linear",
        "function:predict=FILE:labels,classes=3",
        "function:predict=FILE:probabilities,gives=scores,probabilities=true",
        "torch-module:build=FILE:Labels,gives=labels,classes=3",
    )
    called, cells = run(*models, attacks=attacks)
    assert called.code == 0, called.err
    gives = {"m0": "gradients", "m1": "labels", "m2": "scores", "m3": "labels"}
    for (model, attack, defense), cell in cells.items():
        needed = {"noise": "nothing", "rays": "labels", "square": "scores", "fgsm": "gradients"}[attack.split(":")[0]]
        words = ("gradients", "scores", "labels", "nothing")
        if words.index(needed) < words.index(gives[model]):
            name = "torch-module" if model == "m3" else "function"
            reason = f"attack {attack.split(':')[0]!r} needs {needed}, and model {name!r} gives only {gives[model]}"
            assert (cell["status"], cell["error"]) == ("skipped", reason)
        else:
            assert cell["status"] == "ok"
            same = cells["m0", attack, defense]
            if needed in ("nothing", "labels"):  # the same network, so the same numbers
                assert cell["robust_accuracy"] == same["robust_accuracy"]
            assert cell["clean_accuracy"] == same["clean_accuracy"] > 0


def test_a_stochastic_function_is_drawn(run: Run) -> None:
    flags = ("--eot", 3, "--score-draws", 4)
    model = "function:predict=FILE:noisy,stochastic=true,classes=3"
    _, cells = run(model, attacks=("rays:queries=30",), flags=flags)
    for cell in cells.values():
        assert cell["status"] == "ok"
        assert cell["robust_accuracy_draws"]["n"] == 4
        assert cell["protocols"]["any"]["clean_accuracy"] < cell["clean_accuracy"]


def test_results_are_computed_again_if_the_named_file_has_changed(run: Run, tmp_path: Path) -> None:
    shift = tmp_path / "shift.txt"
    shift.write_text("0")
    model = f"function:predict=FILE:shifted,weights={shift}"
    _, before = run(model)
    shift.write_text("1000")
    _, after = run(model)
    accuracies = [next(iter(cells.values()))["clean_accuracy"] for cells in (before, after)]
    assert accuracies[1] < accuracies[0]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("function:predict=FILE:nowhere", "predict.py defines no 'nowhere'"),
        ("function:predict=labels", "predict=labels: must be FILE.py:NAME or package.module:NAME"),
        ("function:predict=missing.py:labels", "missing.py: no such file"),
        ("function:predict=FILE:two", "predict.py:two does not take (images) (stochastic=true adds rng): missing"),
        ("function:predict=FILE:labels,stochastic=true", "predict.py:labels does not take (images, rng): too many"),
        ("function:predict=FILE:network", "is a network; use torch-module:build="),
        ("function:predict=FILE:Classifier", "is a class; name a function, which may call a method of it"),
        ("function:predict=FILE:classifier", "is an object of Classifier; name a function"),
        ("function:predict=FILE:labels,gives=label", "gives=label: must be one of labels, scores, gradients"),
        ("function:predict=FILE:labels,probabilities=true", "probabilities=true: allowed with gives=scores alone"),
        ("function:predict=FILE:labels,classes=1", "classes=1: must be a whole number of at least 2"),
        ("function:predict=FILE:labels,shape=3", "shape=3: must be channels x height x width"),
        ("function:predict=FILE:labels,weights=none.pkl", "weights=none.pkl: no such file"),
        ("function:predict=FILE:labels,shape=3x4x4,classes=3", "function takes images of (3, 4, 4), toy has (1, 4, 4)"),
    ],
)
def test_what_cannot_be_used_is_a_one_line_error(run: Run, model: str, message: str) -> None:
    called, cells = run(model)
    assert called.code == 2
    assert not cells
    assert message in called.error_line()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("function:predict=FILE:labels", "predict.py:labels returned class numbers, and their number is unknown"),
        ("function:predict=FILE:out,classes=3", "predict.py:out returned the classes 2 to 4; with classes=3 they must"),
        ("function:predict=FILE:fails,classes=3", "predict.py:fails,classes=3', predict.py:14)"),
        ("function:predict=FILE:labels,gives=scores", "predict.py:labels returned shape"),
        ("torch-module:build=FILE:Labels,stochastic=true", "its network takes (images); it must take (images, rng)"),
    ],
)
def test_a_function_that_fails_is_the_error_of_its_cells(run: Run, model: str, message: str) -> None:
    _, cells = run(model)
    for cell in cells.values():
        assert cell["status"] == "error"
        assert message in cell["error"]


KNOWING = """
import torch
from advbench_models.mnist_cnn import MnistCnn
network = MnistCnn().load().eval()

def scores(images):
    with torch.no_grad():
        return network(torch.from_numpy(images)).double().numpy()
def labels(images): return scores(images).argmax(axis=1).tolist()
def probabilities(images): return torch.softmax(torch.from_numpy(scores(images)), dim=1)
def noisy(images, rng): return labels(images + 0.1 * rng.normal(1, 28, 28).numpy())
def fixed(images, rng): return labels(images)
def random(images): return torch.rand(len(images), 10)
"""


@pytest.mark.parametrize(
    ("model", "kept"),
    [
        ("labels,classes=10", True),
        ("probabilities,gives=scores,probabilities=true", True),
        ("noisy,classes=10,stochastic=true", True),  # although labels of a few clear images are equal in all draws
        ("fixed,classes=10,stochastic=true", False),
        ("random", False),
    ],
)
def test_check(call: Callable[..., Called], tmp_path: Path, model: str, kept: bool) -> None:
    (tmp_path / "predict.py").write_text(KNOWING)
    called = call("check", f"function:predict={tmp_path / 'predict.py'}:{model},shape=1x28x28")
    assert (called.code == 0) == kept, called.out
    if model == "random":
        assert "deterministic in eval mode" in called.out
