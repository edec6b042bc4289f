"""Functions and networks of a session that give less than gradients, or are random."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import TOY

import advbench
from advbench.api import SampleRandom, UsageError

pytestmark = pytest.mark.slow

WEIGHTS = torch.randn(3, 16, generator=torch.Generator().manual_seed(3))
SIGN, INVERT = "toy-sign", "invert"


def invert(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Inverts the images that are classified correctly."""
    correct = model(images).argmax(dim=1) == labels
    return torch.where(correct[:, None, None, None], 1 - images, images)


invert.access = "labels"  # type: ignore[attr-defined]


@pytest.fixture
def evaluate(tmp_path: Path) -> Callable[..., dict[tuple[str, str], dict[str, Any]]]:
    """Evaluates models on the toy dataset; returns the cells by model and attack."""

    def run(models: Any, **more: Any) -> dict[tuple[str, str], dict[str, Any]]:
        axes = {"datasets": "toy", "attacks": [SIGN, invert], "defenses": ["toy-dim"], "threats": "adaptive"}
        results = advbench.matrix(**axes, models=models, plugin=TOY, store=tmp_path / "store", quiet=True, **more)
        return {(cell["short"]["model"], cell["short"]["attack"]): cell for cell in results.data["cells"]}

    return run


def logits(images: Any) -> Any:
    return (images.reshape(len(images), -1) - 0.5) @ WEIGHTS.numpy().T


def made(function: Callable[..., Any], **attributes: Any) -> Callable[..., Any]:
    for name, value in attributes.items():
        setattr(function, name, value)
    return function


def test_functions_that_give_less_have_the_numbers_of_the_network(
    evaluate: Callable[..., dict[tuple[str, str], dict[str, Any]]],
) -> None:
    def shares(images: Any) -> Any:
        exponentials = np.exp(logits(images))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    cells = evaluate(
        {
            "network": "toy-linear",
            "labels": made(lambda images: logits(images).argmax(axis=1), gives="labels", classes=3),
            "tensors": made(
                lambda images: logits(images.numpy()).argmax(axis=1), gives="labels", classes=3, tensors=True
            ),
            "shares": made(shares, gives="scores", probabilities=True),
        }
    )
    expected = cells["network", INVERT]
    for name, gives in (("labels", "labels"), ("tensors", "labels"), ("shares", "scores")):
        assert cells[name, INVERT]["status"] == "ok"
        assert cells[name, INVERT]["robust_accuracy"] == expected["robust_accuracy"]
        assert cells[name, INVERT]["clean_accuracy"] == expected["clean_accuracy"]
        assert cells[name, SIGN]["error"] == f"attack 'toy-sign' needs gradients, and model {name!r} gives only {gives}"


def test_random_functions_and_networks_are_drawn(
    evaluate: Callable[..., dict[tuple[str, str], dict[str, Any]]],
) -> None:
    class Network(torch.nn.Module):
        stochastic = True

        def forward(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
            return (images.flatten(1) - 0.5) @ WEIGHTS.T + rng.normal(3)

    class Plain(torch.nn.Module):
        stochastic = True  # a setting of the user's own: its network takes the images alone

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (images.flatten(1) - 0.5) @ WEIGHTS.T

    function = made(lambda images, rng: (images.flatten(1) - 0.5) @ WEIGHTS.T + rng.normal(3), stochastic=True)
    cells = evaluate({"noisy": function, "network": Network(), "plain": Plain()}, eot=3, score_draws=4)
    for name in ("noisy", "network"):
        assert cells[name, SIGN]["robust_accuracy_draws"]["n"] == 4
        assert cells[name, SIGN]["queries"]["forwards"] == 3 * 40
        assert cells[name, SIGN]["robust_accuracy"] == cells["noisy", SIGN]["robust_accuracy"]
    assert cells["plain", SIGN]["robust_accuracy_draws"] is None


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"gives": "label"}, "has gives = 'label'; there are: gradients, scores, labels, nothing"),
        ({"gives": "labels", "classes": 1}, "has classes = 1; it must be a whole number of at least 2"),
        ({"gives": "labels", "classes": ["cat"]}, "has classes = ['cat']; it must be a whole number"),
        ({"gives": "labels", "probabilities": True}, "has probabilities = True, which is for gives = 'scores' alone"),
        ({"gives": "labels", "tensors": 1}, "has tensors = 1; it must be True or False"),
        ({"stochastic": "yes"}, "has stochastic = 'yes'; it must be True or False"),
        ({"stochastic": True}, "takes other arguments; a model takes (images, rng)"),
    ],
)
def test_wrong_attributes_are_one_line_errors(
    evaluate: Callable[..., dict[tuple[str, str], dict[str, Any]]], attributes: dict[str, Any], message: str
) -> None:
    def predict(images: Any) -> Any:
        return logits(images)

    with pytest.raises(UsageError) as raised:
        evaluate(made(predict, **attributes))
    assert str(raised.value) == f"models: the function predict {message}" or message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_function_of_other_arguments_is_a_one_line_error(
    evaluate: Callable[..., dict[tuple[str, str], dict[str, Any]]],
) -> None:
    with pytest.raises(UsageError, match=r"a model takes \(images\), or \(images, rng\) with the attribute stochastic"):
        evaluate(lambda images, labels: logits(images))


def test_what_it_returns_is_named_with_the_function(
    evaluate: Callable[..., dict[tuple[str, str], dict[str, Any]]],
) -> None:
    def predict(images: Any) -> Any:
        return logits(images).argmax(axis=1)

    cells = evaluate(made(predict, gives="labels"))
    error = cells["predict", INVERT]["error"]
    assert "model 'predict': the function predict returned class numbers, and their number is unknown" in error
