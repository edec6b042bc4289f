"""A real stochastic model, the MNIST classifier with dropout that stays on, under real attacks and defenses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import Called

from advbench.api import ContractError, Float32Network, Model, SampleRandom
from advbench.discovery.loading import discover
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier
from advbench.specs import Chain, resolve_one
from advbench.store import Store

pytestmark = pytest.mark.slow

PLUGIN = '''
from dataclasses import dataclass
from advbench.api import Model, hookimpl
from advbench_models.mnist_cnn import MnistCnn
import torch

class Network(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network
    def forward(self, images, rng):
        network = self.network
        hidden = network.classifier[:3](network.features((images - network.mean) / network.std))
        return network.classifier[3](hidden * rng.bernoulli(0.2, hidden.shape[1]) / 0.2)

@dataclass(frozen=True)
class Dropout(Model):
    """mnist-cnn with dropout before the last layer."""
    name = "dropout"
    image_shape, num_classes, stochastic = (1, 28, 28), 10, True
    def load(self): return Network(MnistCnn().load())
    def weights_digest(self): return MnistCnn().weights_digest()

@hookimpl
def register_models(register): register(Dropout)
'''


NETS = """
import torch

class Plain(torch.nn.Module):
    def forward(self, images): return images.flatten(1)

class Noisy(torch.nn.Module):
    def forward(self, images, rng): return images.flatten(1) + rng.normal(4)
"""


@pytest.fixture
def run(call: Callable[..., Called], tmp_path: Path) -> Callable[..., list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Evaluates the model; returns each cell of the results with its record in the store."""
    (tmp_path / "dropout.py").write_text(PLUGIN)

    def make(*flags: object, attacks: list[str], defenses: list[str], store: str = "store") -> Any:
        axes = ("--datasets", "mnist-5k", "--models", "dropout", "--attacks", *attacks, "--defenses", *defenses)
        where = ("--plugin", tmp_path / "dropout.py", "--store", tmp_path / store, "--export", tmp_path / "r.json")
        called = call("matrix", *axes, *where, "--limit", 5, "--fit-samples", 20, "--threats", "adaptive", "-q", *flags)
        assert called.code == 0, called.err
        cells = json.loads((tmp_path / "r.json").read_text())["cells"]
        stored = Store(tmp_path / store)
        manifest = stored.read_manifest(next(stored.runs()))
        assert manifest is not None
        records = [stored.read_record("cells", cell["key"]) for cell in manifest["cells"]]
        return list(zip(cells, records, strict=True))

    return make


def test_target_classes_do_not_depend_on_the_batch_nor_on_the_defense(run: Any) -> None:
    attacks = ["fgsm:eps=0.1,goal=least-likely", "fgsm:eps=0.2,goal=second"]
    together = run("--eot", 2, attacks=attacks, defenses=["none", "jpeg"])
    alone = run("--eot", 2, "--batch-size", 1, attacks=attacks, defenses=["none"], store="other")
    for number, (_, record) in enumerate(alone):
        by_defense = [record for cell, record in together if cell["attack"] == alone[number][0]["attack"]]
        assert len(by_defense) == 2
        assert by_defense[0]["targets"] == by_defense[1]["targets"] == record["targets"]
        assert len(set(record["targets"])) > 1
        assert all(target != label for target, label in zip(record["targets"], record["labels"], strict=True))


def test_votes_detectors_certificates_and_fits_draw_it(run: Any) -> None:
    attacks = ["pgd:eps=0.2,steps=3", "foolbox:attack=LinfFastGradientAttack,eps=0.2", "patch:steps=2,area=0.1"]
    defenses = ["none", "smoothing:samples=10,n0=10,n=30", "feature-squeezing"]
    cells = run("--certify", "--eot", 2, "--score-draws", 3, attacks=attacks, defenses=defenses)
    assert len(cells) == 9
    for cell, record in cells:
        assert cell["status"] == "ok"
        assert cell["stochastic"]
        assert len(record["robust_draws"]) == 3
        assert cell["findings"] == []


def test_it_can_be_attacked_in_another_precision(run: Any) -> None:
    ((cell, _),) = run("--precision", "bf16", "--eot", 2, attacks=["fgsm:eps=0.1"], defenses=["none"])
    assert cell["status"] == "ok"


def test_attacks_see_the_mean_logits_of_fresh_draws() -> None:
    weights = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

    class Dropout(torch.nn.Module):
        def forward(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
            pixels = images.flatten(1)
            return (pixels * rng.bernoulli(0.5, 4) / 0.5) @ weights

    images = torch.rand(2, 1, 2, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
    network = Float32Network(Dropout(), takes_rng=True)
    rng = SampleRandom(0, "attack", [3, 4])
    classifier = DefendedClassifier(network, Chain(()), rng, 4000)
    logits = classifier(images)
    torch.testing.assert_close(logits, images.flatten(1) @ weights, atol=0.05, rtol=0)
    assert not torch.equal(logits, classifier(images))
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    torch.testing.assert_close(gradient.flatten(1), weights[:, 0].expand(2, 4), atol=0.15, rtol=0)


def test_an_ensemble_is_as_random_and_gives_as_little_as_its_models(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"
    file.write_text(NETS)
    registry = discover()

    def model(spec: str) -> Model:
        resolved = resolve_one(registry, "models", spec.replace("FILE", str(file)))
        assert isinstance(resolved, Model)
        return resolved

    noisy, plain = "torch-module:build=FILE:Noisy,stochastic=true,mean=0.5,std=2", "torch-module:build=FILE:Plain"
    labels = "torch-module:build=FILE:Plain,gives=labels"
    for spec in (plain, f'ensemble:of="{plain} | {plain}"'):
        assert (model(spec).gives, model(spec).stochastic) == ("gradients", False)
    assert model(f'ensemble:of="{plain} | {labels}"').gives == "labels"
    ensemble = model(f'ensemble:of="{plain} | {noisy} | {noisy}"')
    assert ensemble.stochastic
    images, rng = torch.rand(2, 1, 2, 2), SampleRandom(0, "test", [1, 2])
    logits = ensemble.load()(images, rng)
    expected = [images.flatten(1), *(_noisy(images, rng.derive(str(place))) for place in (1, 2))]
    torch.testing.assert_close(logits, torch.stack(expected).mean(dim=0))
    assert not torch.equal(expected[1], expected[2])  # each has streams of its own


def _noisy(images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    return ((images - 0.5) / 2).flatten(1) + rng.normal(4)


MEMBERS = """
import torch
class Plain(torch.nn.Module):
    def forward(self, images): return images.flatten(1) - 0.5
class InPlace(torch.nn.Module):
    def forward(self, images): return images.sub_(0.5).flatten(1)
class Wide(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4).double()
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(4)), self.linear.bias.fill_(-0.5)
    def forward(self, images): return {"logits": self.linear(images.flatten(1))}
"""


@pytest.mark.parametrize("members", ["InPlace | Plain", "Plain | InPlace", "Wide | Plain", "InPlace | InPlace | Wide"])
def test_members_of_an_ensemble_may_have_any_form_that_a_model_alone_may_have(tmp_path: Path, members: str) -> None:
    file = tmp_path / "members.py"
    file.write_text(MEMBERS)
    of = " | ".join(f"torch-module:build={file}:{name}" for name in members.split(" | "))
    network = resolve_one(discover(), "models", f'ensemble:of="{of}"').load()
    images = torch.rand(3, 1, 2, 2).requires_grad_()
    given = images.detach().clone()
    logits = network(images)
    torch.testing.assert_close(logits, given.flatten(1) - 0.5)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    torch.testing.assert_close(gradient, torch.ones_like(gradient))
    torch.testing.assert_close(images.detach(), given)


ODD_MEMBERS = """
import torch
class Plain(torch.nn.Module):
    def forward(self, images): return images.flatten(1) - 0.5
class Cut(Plain):
    def forward(self, images):
        with torch.no_grad():
            return super().forward(images)
class Sure(Plain):
    def forward(self, images): return super().forward(images).softmax(dim=1)
class Short(Plain):
    def forward(self, images): return super().forward(images)[:, :3]
class Flat(Plain):
    def forward(self, images): return super().forward(images).sum(dim=1)
"""


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Cut", "has no gradient at its images, so that attacks would leave it out"),
        ("Sure", "returned probabilities, and only logits can be averaged"),
        ("Short", "returned different numbers of logits"),
        ("Flat", "returned shape (9,) for 9 images"),
    ],
)
def test_members_of_an_ensemble_that_do_not_fit_are_named(tmp_path: Path, name: str, message: str, place: int) -> None:
    file = tmp_path / "odd.py"
    file.write_text(ODD_MEMBERS)
    names = ["Plain", "Plain"]
    names[place] = name
    of = " | ".join(f"torch-module:build={file}:{one}" for one in names)
    network = resolve_one(discover(), "models", f'ensemble:of="{of}"').load()
    images = torch.rand(9, 1, 2, 2).requires_grad_()
    with pytest.raises(ContractError) as raised:
        network(images)
        with torch.no_grad():
            network(images)
    assert message in str(raised.value)
    assert "model 'torch-module' (" in str(raised.value)
