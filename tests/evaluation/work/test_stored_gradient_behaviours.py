"""Stored results are used again only if gradients, views for attacks and certificates are what they were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

pytestmark = [pytest.mark.slow(minutes=1), pytest.mark.usefixtures("quick_workers")]

Run = Callable[..., tuple[Called, dict[str, Any]]]

PLUGIN = '''
import pathlib
from dataclasses import dataclass

import torch

from advbench.api import (
    Answer, Attack, Budget, Certificate, Defense, Detector, Model, has_approximate_gradients, hookimpl, param
)


def sign():
    """1 or -1, from a file that is in no key."""
    return float((pathlib.Path(__file__).parent / "sign.txt").read_text())


def turned(images, output):
    return output + sign() * (images - images.detach())


class Rounded(Defense):
    def apply(self, images, rng):
        return (images * 8).round() / 8


class ByApproximation(Rounded):
    name = "approximation"

    def approximation(self, images, rng):
        return turned(images, self.apply(images.detach(), rng))


class ByOutput(Rounded):
    name = "output"

    def approximation_from_output(self, images, output, rng):
        return turned(images, output)


class BySecond(Rounded):
    name = "second"

    def approximations(self):
        def identity(images, output, rng):
            return images * 0.5

        return identity, lambda images, output, rng: turned(images, output)


class Autograd(Defense):
    name = "autograd"
    differentiable = True

    def apply(self, images, rng):
        return turned(images, images.detach().clone())


class Attacked(Defense):
    name = "attacked"

    def classify(self, network, images, rng, fitted=None):
        return network(images)

    def attacked(self, network, images, rng, fitted=None):
        return network(turned(images, images.detach()))


class Views(Attacked):
    name = "views"

    def attacked_views(self):
        return self.classify, lambda *given: Attacked.attacked(self, *given)


class Suspicious(Detector):
    name = "detector"

    def suspicion(self, network, images, rng):
        return images.flatten(1).mean(dim=1) - 0.9

    def attack_logits(self, answer, labels):
        return answer.logits * sign()


class Certified(Defense):
    name = "certified"
    differentiable = True
    certified_norm = "l2"

    def apply(self, images, rng):
        return images

    def certify(self, network, images, rng, fitted=None):
        logits = network(images)
        return Certificate(logits.argmax(dim=1), torch.full((len(images),), 0.5 + 0.4 * sign()))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.randn(3, 16, generator=torch.Generator().manual_seed(3)))

    def forward(self, images):
        return (images.flatten(1) - 0.5) @ self.weights.T


class Guaranteed(Model):
    name = "guaranteed"
    image_shape = (1, 4, 4)
    num_classes = 3
    certified_norm = "l2"

    def weights_digest(self):
        return "0" * 64

    def load(self):
        return Net()

    def certify(self, network, images, rng):
        return Certificate(network(images).argmax(dim=1), torch.full((len(images),), 0.5 + 0.4 * sign()))


@dataclass(frozen=True)
class Longer(Attack):
    name = "longer"

    def budget(self):
        return Budget("linf", 0.3)

    def run(self, model, images, labels, rng):
        eps = 0.3
        if has_approximate_gradients(model) and sign() < 0:
            eps = 0.01
        points = images.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(model(points), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, points)
        return (images + eps * gradient.sign()).clamp(0, 1)


@hookimpl
def register_attacks(register):
    register(Longer)


@hookimpl
def register_models(register):
    register(Guaranteed)


@hookimpl
def register_defenses(register):
    for defense in (ByApproximation, ByOutput, BySecond, Autograd, Attacked, Views, Suspicious, Certified):
        register(defense)
'''

WARNING = "has other outputs than when its stored results were computed"


@pytest.fixture
def signed(toy: Run, tmp_path: Path) -> Callable[..., tuple[str, list[object]]]:
    """Runs the matrix with a sign in the file; what it said, and the accuracies or certified accuracies."""
    plugin = tmp_path / "signed_plugin.py"
    plugin.write_text(PLUGIN)

    def run(sign: int, store: str = "store", **axes: list[str]) -> tuple[str, list[object]]:
        (tmp_path / "sign.txt").write_text(str(sign))
        flags = ["--threats", "adaptive", "--limit", 20, "--fit-samples", 10]
        if axes.get("defenses") == ["certified"] or axes.get("models"):
            flags += ["--certify", "--radii", "0.25"]
        called, results = toy("--plugin", plugin, *flags, store=store, **axes)
        assert called.code == 0, called.err
        certified = [one["curve"] for one in results.get("certificates", ())]
        return called.err, [*(cell["robust_accuracy"] for cell in results["cells"]), *certified]

    return run


@pytest.mark.parametrize(
    ("label", "axes"),
    [
        ("defense 'approximation'", {"defenses": ["approximation"]}),
        ("defense 'output'", {"defenses": ["output"]}),
        ("defense 'second'", {"defenses": ["second"]}),
        ("defense 'autograd'", {"defenses": ["autograd"]}),
        ("defense 'attacked'", {"defenses": ["attacked"]}),
        ("defense 'views'", {"defenses": ["views"]}),
        ("defense 'detector'", {"defenses": ["detector"]}),
        ("defense 'certified'", {"defenses": ["certified"]}),
        ("model 'guaranteed'", {"models": ["guaranteed"], "defenses": ["toy-keep"]}),
        ("attack 'longer'", {"attacks": ["longer"], "defenses": ["toy-dim"]}),
    ],
)
def test_what_shapes_gradients_and_certificates_is_in_the_key(
    signed: Callable[..., tuple[str, list[object]]], label: str, axes: dict[str, list[str]]
) -> None:
    signed(1, **axes)
    assert WARNING not in signed(1, **axes)[0]
    said, changed = signed(-1, **axes)
    assert f"{label} {WARNING}" in " ".join(said.split())
    assert changed == signed(-1, store="fresh", **axes)[1]
    said, _ = signed(1, **axes)
    assert WARNING not in said, "the first results are used again"
