"""``adversarial()``, ``compare()`` and ``figures()`` take what ``matrix()`` took."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.toy_plugin import Dim, Linear, ToySign

import advbench
from advbench.errors import UsageError

pytestmark = pytest.mark.slow

IMAGES = torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(1))
LABELS = Linear(1.0)(IMAGES).argmax(dim=1)
NETWORK = Linear(2.0)


def darker(images: torch.Tensor) -> torch.Tensor:
    return images * 0.5


def lighter(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (images + 0.1).clamp(0, 1)


@pytest.fixture
def results(evaluate: Callable[..., advbench.Results]) -> advbench.Results:
    return evaluate(
        datasets=(IMAGES, LABELS.tolist()),
        models={"ResNet18": NETWORK, "method": NETWORK.forward, "toy": "toy-linear"},
        attacks=["toy-sign", "toy-sign:eps=0.05", lighter],
        defenses={"none": "toy-keep", "Darker": darker},
        threats=["oblivious", "adaptive"],
    )


def test_cells_are_found_by_the_objects_of_the_call(results: advbench.Results) -> None:
    one = {"attack": "lighter", "model": "ResNet18", "defense": "Darker", "threat": "adaptive"}
    expected = results.adversarial(**one)
    labels = LABELS.tolist()
    for given in ({"attack": lighter}, {"model": NETWORK}, {"defense": darker}, {"attack": lighter, "model": NETWORK}):
        assert (results.adversarial(**{**one, **given}).images == expected.images).all()
    other = results.adversarial(**{**one, "model": NETWORK.forward})
    assert (other.images == results.adversarial(**{**one, "model": "method"}).images).all()
    with pytest.raises(UsageError, match="no cell has dataset=<tuple object>"):
        results.adversarial(dataset=(IMAGES, labels))


def test_a_new_tuple_of_the_same_arrays_is_the_same_data(evaluate: Callable[..., advbench.Results]) -> None:
    results = evaluate(datasets=(IMAGES, LABELS), defenses="toy-keep")
    assert len(results.adversarial(dataset=(IMAGES, LABELS)).images) == 10


def test_objects_are_compared(results: advbench.Results) -> None:
    assert results.compare(models=(NETWORK, "toy-linear")).names == ("ResNet18", "toy")
    assert results.compare(defenses=("none", darker)).names == ("none", "Darker")
    assert results.compare(attacks=(lighter, ToySign)).names == ("lighter", "toy-sign")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda results: results.adversarial(model=Linear(2.0)), "no cell has model=<Linear object>; there are: model"),
        (lambda results: results.adversarial(attack=darker), "no cell has attack=<function darker>; there are: model"),
        (lambda results: results.adversarial(model=[NETWORK]), "no cell has model=<list object>"),
        (lambda results: results.adversarial(threat=3), "no cell has threat=<int object>; there are:"),
        (lambda results: results.adversarial(dataset="mnist"), "no cell has dataset='mnist'; there are: dataset data;"),
        (lambda results: results.adversarial(model=NETWORK), "model=<Linear object> matches several sets of images"),
        (lambda results: results.adversarial(), "adversarial(): the run has several sets of images; add: model"),
        (lambda results: results.compare(defenses=("none", lighter)), "no cell has defense=<function lighter>; there"),
        (lambda results: results.compare(defenses=("none", Dim)), "no cell has defense='toy-dim'; there are: none, Da"),
        (lambda results: results.compare(NETWORK), "an object of Linear is neither results nor the name of a run"),
        (lambda results: results.figures("f", attacks=darker), "figures(): no cell has attack=<function darker>"),
        (lambda results: results.figures("f", attacks="fgsm"), "figures(): attacks='fgsm': is not in run"),
        (lambda results: results.figures("f", defenses=[]), "figures(): defenses: is empty; give at least one"),
        (lambda results: results.figures("f", all=True, only="eps"), "figures(): only and all: give only one of them"),
    ],
)
def test_what_is_not_in_the_run_is_named_without_its_repr(
    evaluate: Callable[..., advbench.Results], ask: Callable[[advbench.Results], Any], message: str
) -> None:
    results = evaluate(
        datasets=(IMAGES, LABELS), models={"ResNet18": NETWORK, "toy": "toy-linear"}, attacks=["toy-sign", lighter],
        defenses={"none": "toy-keep", "Darker": darker}, limit=3,
    )  # fmt: skip
    with pytest.raises(UsageError) as raised:
        ask(results)
    assert message in str(raised.value)
    assert " at 0x" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_figures_of_some_attacks_and_defenses(
    evaluate: Callable[..., advbench.Results], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Drawing is slow, and other tests do it.
    monkeypatch.setattr("advbench.report.figures.save", lambda drawing, folder, formats: [folder / drawing.name])
    results = evaluate(
        models={"ResNet18": NETWORK}, attacks=["toy-sign", "toy-sign:eps={0.05,0.07}", lighter],
        defenses=["toy-keep", "toy-dim", "toy-flip", darker], limit=10,
    )  # fmt: skip

    def names(folder: str, **given: Any) -> set[str]:
        return {path.name for path in results.figures(tmp_path / folder, samples=0, **given)}

    assert names("some", attacks=[lighter], defenses=darker, only="confusion") == {
        "confusion-toy-ResNet18-lighter-oblivious-darker"
    }
    assert {"eps-0p05" in name for name in names("both", attacks="toy-sign", only="confusion")} == {True, False}
    every = names("every", all=True)
    assert len(every) > 12
    assert sum(name.startswith("confusion") for name in every) == 12


def test_figures_of_some_attacks_over_several_seeds(evaluate: Callable[..., advbench.Results], tmp_path: Path) -> None:
    results = evaluate(attacks=["toy-sign:jitter=true", "toy-sign"], seeds=[0, 1], limit=10)
    figures = results.figures(tmp_path, samples=1, attacks="toy-sign:jitter=true", only=["scatter", "strips"])
    assert {path.name.partition("-")[0] for path in figures} == {"scatter", "strips"}
