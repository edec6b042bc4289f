"""Names of the user for any mixture of objects and specs, and the live surrogate."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toy_plugin import Linear, ToySign

import advbench
import advbench.results
from advbench.api import Defense, SampleRandom, param
from advbench.errors import UsageError

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Dimmer(Defense):
    """A defense that no plugin registers."""

    name = "dimmer"
    factor: float = param(0.5, min=0, max=1, help="what is left of the contrast")

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        return (images - 0.5) * self.factor + 0.5


def dim(images: torch.Tensor) -> torch.Tensor:
    return (images - 0.5) * 0.5 + 0.5


def dim_then_dim(images: torch.Tensor) -> torch.Tensor:
    return dim(dim(images))


def measured(results: advbench.Results) -> list[tuple[Any, ...]]:
    keys = ("status", "n", "clean_accuracy", "robust_accuracy", "median_linf", "median_l2")
    return [tuple(cell[key] for key in keys) for cell in results.data["cells"]]


def test_a_dictionary_names_any_mixture(evaluate: Callable[..., advbench.Results], tmp_path: Path) -> None:
    results = evaluate(
        models={"a": Linear(1.0), "b": "toy-linear"},
        attacks={"weak": "toy-sign:eps=0.05", "strong": "toy-sign:eps=0.3"},
        defenses={"none": "toy-keep", "dark": dim, "dim": Dimmer(0.25), "both": "dark+toy-dim"},
    )
    shown = [cell["short"] for cell in results.data["cells"]]
    assert list(dict.fromkeys(short["model"] for short in shown)) == ["a", "b"]
    assert list(dict.fromkeys(short["attack"] for short in shown)) == ["weak", "strong"]
    assert list(dict.fromkeys(short["defense"] for short in shown)) == ["none", "dark", "dim", "both"]
    cell = next(cell for cell in results.data["cells"] if cell["short"]["model"] == "b")
    assert (cell["model"], cell["short"]["attack"]) == ("toy-linear:scale=1", "weak")
    board = str(results)
    assert all(f" {name} " in board for name in ("none", "dark", "dim", "both", "weak", "strong"))
    assert board.count("dimmer") == 1
    assert re.search(r"alias +dim = dimmer:factor=0\.25\n", board)
    assert "attacks   toy-sign:eps=0.05" in board
    strong = results.adversarial(model="b", attack="strong", defense="dim")
    assert (strong.images == results.adversarial(model="toy-linear", attack=ToySign(eps=0.3)).images).all()
    assert results.compare(defenses=("none", "both")).names == ("none", "both")
    assert advbench.results.read_run(store=tmp_path / "store")["cells"][0]["short"] == results.data["cells"][0]["short"]
    assert measured(results)[8:] == measured(evaluate(
        attacks=["toy-sign:eps=0.05", "toy-sign:eps=0.3"],
        defenses=["toy-keep", dim, "toy-dim:factor=0.25", dim_then_dim],
    ))  # fmt: skip


def test_names_of_objects_have_the_form_of_aliases_and_are_shown_everywhere(
    evaluate: Callable[..., advbench.Results], tmp_path: Path
) -> None:
    images = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    results = evaluate(
        datasets={"MyData": (images, Linear(1.0)(images).argmax(dim=1))},
        models={"ResNet18": Linear(1.0), "resnet18": Linear(2.0), "CNN": "toy-linear:scale=3"},
        defenses={"None": "toy-keep", "Dark": dim, "Both": "Dark+toy-dim"},
    )
    cells = results.data["cells"]
    assert list(dict.fromkeys(cell["short"]["model"] for cell in cells)) == ["ResNet18", "resnet18", "CNN"]
    assert list(dict.fromkeys(cell["short"]["defense"] for cell in cells)) == ["None", "Dark", "Both"]
    assert {row["dataset"] for row in results.rows()} == {"MyData"}
    files = results.export(*(tmp_path / f"board.{suffix}" for suffix in ("md", "tex", "csv", "html")))
    for text in (str(results), *(file.read_text("utf-8").replace("{-}", "-") for file in files)):
        assert all(name in text for name in ("MyData", "ResNet18", "resnet18", "Dark"))
    assert "alias     CNN = toy-linear:scale=3\n" in str(results)
    assert "ResNet18 =" not in str(results)
    one = {"attack": "toy-sign", "defense": "None"}
    assert len(results.adversarial(model="ResNet18", **one).images) == 20
    assert results.compare(models=("ResNet18", "CNN")).names == ("ResNet18", "CNN")
    assert results.compare(defenses=("Dark", "Both")).names == ("Dark", "Both")


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("my cnn", "my-cnn"),
        (1, "model-1"),
        ("18 layers", "model-18-layers"),
        ("ResNet18 (ours)", "ResNet18-ours"),
        ("Über\x1b[31m", "Uber-31m"),
        ("n" * 41, "n" * 40),
        ("", "my-model"),
        (None, "my-model"),
    ],
)
@pytest.mark.parametrize("model", [Linear(1.0), "toy-linear"])
def test_one_rule_holds_for_the_names_of_objects_and_of_specs(
    evaluate: Callable[..., advbench.Results], name: Any, like: str, model: Any
) -> None:
    with pytest.raises(UsageError) as raised:
        evaluate(models={name: model})
    assert str(raised.value).startswith(f"models: name {name!r}: must be text such as {like!r}: a letter, then")


def test_a_surrogate_is_called_by_its_name(evaluate: Callable[..., advbench.Results]) -> None:
    for other in (Linear(2.0), "toy-linear:scale=2"):
        results = evaluate(surrogate={"Big": other}, threats="transfer", limit=5)
        assert "(surrogate Big)" in " ".join(str(results).split())


def test_names_replace_the_specs_of_a_sweep(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(defenses={"strong": "toy-dim:factor=0.25", "weak": "toy-dim"}, limit=10)
    board = str(results).partition("alias ")[0]
    assert " strong " in board
    assert " weak " in board
    assert "factor" not in board


def test_objects_of_one_class_are_numbered(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(datasets={"a": "toy"}, models=[Linear(1.0), Linear(2.0), Linear(-1.0)], defenses={"a": dim})
    assert [cell["model"] for cell in results.data["cells"]] == ["linear", "linear-2", "linear-3"]
    clean = [cell["clean_accuracy"] for cell in results.data["cells"]]
    assert clean[0] == clean[1] > clean[2]


def test_a_live_network_is_the_surrogate(evaluate: Callable[..., advbench.Results], tmp_path: Path) -> None:
    other = Linear(-1.0)
    given = {"models": {"a": Linear(1.0)}, "defenses": "toy-keep", "threats": "transfer"}
    results = evaluate(**given, surrogate=other)
    assert results.data["run"]["surrogate"] == "linear"
    same = evaluate(**{**given, "models": "toy-linear"}, surrogate="toy-linear:scale=0.5")
    assert measured(results) != measured(same)
    made = results.adversarial()
    assert made.predictions.tolist() == other(torch.from_numpy(made.images)).argmax(dim=1).tolist()
    assert "data:image/png" in results.report(tmp_path / "report.html").read_text("utf-8")
    mixed = evaluate(**{**given, "models": [Linear(1.0), other]}, surrogate=other)
    assert [cell["status"] for cell in mixed.data["cells"]] == ["ok", "skipped"]
    with pytest.raises(UsageError, match="surrogate: models: an object of int cannot be used here"):
        evaluate(**given, surrogate=3)
    with pytest.raises(UsageError, match="surrogate: is empty; give at least one model, or leave it out"):
        evaluate(**given, surrogate=[])
    with pytest.raises(UsageError, match="surrogate: 'linear' and 'linear' are the same after defaults"):
        evaluate(**given, surrogate=[other, other])
    with pytest.raises(UsageError, match="only the threat 'transfer' has one"):
        evaluate(surrogate=other)


def test_several_networks_are_surrogates(evaluate: Callable[..., advbench.Results]) -> None:
    """The worst case under the threat is that over the images of all of them, sample by sample."""
    attacked = Linear(1.0)
    others = {"near": Linear(1.0), "Far": Linear(1.0)}
    for size, other in enumerate(others.values(), 1):
        other.weights.data += size * torch.randn(3, 16, generator=torch.Generator().manual_seed(size))
    given = {"models": {"own": attacked}, "defenses": "toy-keep", "threats": ["oblivious", "transfer"]}
    results = evaluate(**given, attacks="toy-sign:eps=0.1", surrogate=others)
    clean = results.adversarial(threat="oblivious").clean_predictions
    cells = {cell["short"].get("surrogate", ""): cell for cell in results.data["cells"]}
    assert list(cells) == ["", "near", "Far"]
    assert results.data["run"]["surrogate"] == list(others)
    withstood = []
    for name, other in others.items():
        made = results.adversarial(surrogate=name)
        images = torch.from_numpy(made.images)
        assert made.predictions.tolist() == other(images).argmax(dim=1).tolist()
        withstood.append((clean == made.labels) & (attacked(images).argmax(dim=1).numpy() == made.labels))
        assert cells[name]["robust_accuracy"] == pytest.approx(withstood[-1].mean())
    both = (withstood[0] & withstood[1]).mean()
    assert 0 < both < min(cells[name]["robust_accuracy"] for name in ("near", "Far"))
    (row,) = results.data["leaderboards"][0]["rows"]
    assert row["worst_case_under"]["transfer"]["accuracy"] == pytest.approx(both)
    assert (results.adversarial(surrogate=others["near"]).images == results.adversarial(surrogate="near").images).all()
    with pytest.raises(UsageError, match="several sets of images; add: surrogate near, Far"):
        results.adversarial(threat="transfer")
    with pytest.raises(UsageError, match=r"no cell has surrogate='toy-linear'; there are: .*surrogate near, Far"):
        results.adversarial(surrogate="toy-linear")


def test_a_model_of_the_call_is_a_surrogate_under_its_name(evaluate: Callable[..., advbench.Results]) -> None:
    nets = {"a": Linear(1.0), "b": Linear(-1.0)}
    given = {"models": nets, "defenses": "toy-keep", "threats": "transfer", "limit": 5}
    results = evaluate(**given, surrogate=[nets["a"], nets["b"], "toy-linear:scale=2"])
    states = [(cell["model"], cell["surrogate"], cell["status"]) for cell in results.data["cells"]]
    assert states[:3] == [("a", "a", "skipped"), ("a", "b", "ok"), ("a", "toy-linear:scale=2", "ok")]
    assert len(states) == 6


def test_data_of_the_session_serve_fits(evaluate: Callable[..., advbench.Results]) -> None:
    toy, plugin = (Path(__file__).parents[1] / name for name in ("toy_plugin.py", "fitting_plugin.py"))
    images, labels = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.arange(30) % 3
    given = {"attacks": "universal", "plugin": [toy, plugin], "fit_samples": 20}
    results = evaluate(**given, fit_data=(images, labels))
    assert results.data["run"]["fit_data"] == "data"
    assert results.data["cells"][0]["status"] == "ok"
    data = (images, labels)
    same = evaluate(**{**given, "datasets": data, "fit_samples": 4}, fit_data=data, limit=4)
    assert same.data["run"]["fit_data"] == "data", "what is evaluated may also be fitted to, but for its samples"
    with pytest.raises(UsageError, match="fit_data: give one dataset"):
        evaluate(**given, fit_data=["toy", "toy-rgb"])
