"""Components as parameters: their specs, their keys, and what ``worst-of`` and ``ensemble`` make of them."""

from __future__ import annotations

import pytest
import torch

from advbench.api import Attack, Goal, Model, SampleRandom
from advbench.api.spec_text import split_specs
from advbench.discovery.loading import discover
from advbench.discovery.registry import Registry
from advbench.errors import UsageError
from advbench.evaluation.plan.keys import attack_identity
from advbench.specs import full_spec, resolve_one, short_spec


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


def test_specs_are_split_outside_of_quotes() -> None:
    assert split_specs('a | b:c="x|y",d=1|e') == ["a", 'b:c="x|y",d=1', "e"]
    assert split_specs('a:b="\\"|" | c') == ['a:b="\\"|"', "c"]
    assert split_specs("a |") == ["a", ""]


def test_a_nested_spec_gives_the_same_component_again(registry: Registry) -> None:
    text = 'worst-of:of="pgd:eps=0.1,steps=3 | worst-of:of=\\"fgsm:eps=0.1 | square:eps=0.1\\""'
    attack = resolve_one(registry, "attacks", text)
    assert resolve_one(registry, "attacks", full_spec(attack)) == attack
    assert resolve_one(registry, "attacks", short_spec(attack)) == attack
    assert short_spec(attack) == text


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("worst-of:of=pgd:eps=0.1,steps=5 | fgsm:eps=0.1", 'quote the whole value: of="SPEC:steps=… | SPEC"'),
        ("worst-of:of=pgd:eps={0.1,0.2} | fgsm", 'stands in quotes, such as of="pgd:eps=0.1 | fgsm"'),
        ("worst-of:of='pgd:eps=0.1,steps=5 | fgsm'", "quote values with \", and not with '"),
    ],
)
def test_a_value_that_lacks_quotes_gets_advice(text: str, advice: str, registry: Registry) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_one(registry, "attacks", text)
    assert advice in str(caught.value)


def test_the_code_of_nested_components_is_in_the_key(registry: Registry) -> None:
    attack = resolve_one(registry, "attacks", "worst-of:of=pgd | fgsm")
    assert isinstance(attack, Attack)
    (names,) = ([part["name"] for part in parts] for parts in attack_identity(attack)["components"].values())
    assert names == ["pgd", "fgsm"]
    assert all(part["code"] for part in attack_identity(attack)["components"]["of"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("worst-of:of=pgd | nix", "worst-of': of: unknown attack 'nix'"),
        ("worst-of:of=pgd | ", "worst-of': of: '': expected a component's name"),
        ('worst-of:of="pgd:eps={0.1,0.2}"', "a sweep cannot be used here"),
        ('worst-of:of="pgd | fgsm:eps=0.1"', "pgd has the budget linf ≤ 0.3, and fgsm linf ≤ 0.1"),
        ("worst-of:of=pgd | deepfool", "deepfool is a minimal attack, and pgd has a budget"),
        ("worst-of:of=deepfool | fmn", "deepfool and fmn minimise different norms"),
        ("worst-of", "needs of=…"),
    ],
)
def test_wrong_members_are_usage_errors(registry: Registry, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_one(registry, "attacks", text)


def test_models_of_an_ensemble_take_the_same_images(registry: Registry) -> None:
    with pytest.raises(UsageError, match="the models take images of different shapes"):
        resolve_one(registry, "models", "ensemble:of=mnist-cnn | cifar10-densenet")


@pytest.mark.parametrize("rule", ["logits", "probabilities"])
def test_an_ensemble_averages(registry: Registry, rule: str) -> None:
    ensemble = resolve_one(registry, "models", f"ensemble:of=mnist-cnn | mnist-cnn-robust,rule={rule}")
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    assert isinstance(ensemble, Model)
    with torch.no_grad():
        logits = torch.stack(
            [resolve_one(registry, "models", name).load().eval()(images) for name in ("mnist-cnn", "mnist-cnn-robust")]  # type: ignore[attr-defined]
        )
        result = ensemble.load().eval()(images)
    if rule == "logits":
        assert torch.allclose(result, logits.mean(0), atol=1e-5)
    else:
        assert torch.allclose(result.softmax(1), logits.softmax(2).mean(0), atol=1e-5)


class Corner(torch.nn.Module):
    """Class 1 if the first pixel is above 0.6; the gradient is zero if ``flat``."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first = images[:, 0, 0, 0]
        return torch.stack([0 * first + 0.6, first], dim=1)


def test_the_best_attack_counts_for_each_sample(registry: Registry) -> None:
    images = torch.full((3, 1, 2, 2), 0.5)
    images[1, 0, 0, 0] = 0.58  # a weaker attack suffices
    labels = torch.zeros(3, dtype=torch.int64)
    attack = resolve_one(registry, "attacks", 'worst-of:of="noise:eps=0.2,kind=uniform | fgsm:eps=0.2"')
    assert isinstance(attack, Attack)
    crafted = attack.craft(Corner().eval(), images, Goal(labels), SampleRandom(0, "test", range(3)), None)
    assert Corner()(crafted.images).argmax(1).tolist() == [1, 1, 1]  # type: ignore[union-attr]
    assert set(crafted.notes["component"].tolist()) <= {0, 1}  # type: ignore[union-attr]
    assert attack.component_names() == ("noise", "fgsm")
    minimal = resolve_one(registry, "attacks", "worst-of:of=deepfool | cw:steps=30")
    assert isinstance(minimal, Attack)
    both = minimal.run(Corner().eval(), images, labels, SampleRandom(0, "test", range(3)))
    for spec in ("deepfool", "cw:steps=30"):
        single = resolve_one(registry, "attacks", spec)
        assert isinstance(single, Attack)
        points = single.run(Corner().eval(), images, labels, SampleRandom(0, "test", range(3)))
        assert ((both - images).flatten(1).norm(dim=1) <= (points - images).flatten(1).norm(dim=1) + 1e-6).all()
