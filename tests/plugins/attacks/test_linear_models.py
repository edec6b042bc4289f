"""What attacks leave of linear models, of logits of any scale and floating dtype, beside what arithmetic says."""

from __future__ import annotations

import math

import pytest
import torch

from advbench.api import Attack
from advbench_attacks.black_box.square import SquareAttack
from advbench_attacks.gradient.apgd import AutoPgd, TargetedAutoPgd
from advbench_attacks.gradient.autoattack import AutoAttack
from advbench_attacks.gradient.fgsm import FastGradientSign
from advbench_attacks.gradient.pgd import ProjectedGradientDescent
from advbench_attacks.minimal.cw import CarliniWagnerL2
from advbench_attacks.minimal.ddn import DecoupledDirectionAndNorm
from advbench_attacks.minimal.deepfool import DeepFool
from advbench_attacks.minimal.fab import TargetedFab
from advbench_attacks.minimal.fmn import FastMinimumNorm

pytestmark = pytest.mark.slow

COUNT = 200
SHAPE = (1, 3, 4)
ORDERS = {"linf": math.inf, "l2": 2.0, "l1": 1.0}
DUALS = {"linf": 1.0, "l2": 2.0, "l1": math.inf}
LOGITS = [
    *((scale, dtype) for dtype in (torch.float32, torch.float64) for scale in (1.0, 1e4, 1e8)),
    *((scale, torch.float16) for scale in (1.0, 1e4)),
]
MINIMAL = [
    ProjectedGradientDescent(search="minimal"),
    *(TargetedFab(norm, steps=10) for norm in ("linf", "l2")),
    *(DeepFool(norm=norm) for norm in ("linf", "l2")),
    *(FastMinimumNorm(norm) for norm in ("linf", "l2", "l1")),
    DecoupledDirectionAndNorm(),
    CarliniWagnerL2(steps=50),
]


class Planes(torch.nn.Module):
    """Classes with planes as boundaries, computed in a dtype, with logits of a scale; all arithmetic is in float64."""

    def __init__(self, classes: int, scale: float, dtype: torch.dtype) -> None:
        super().__init__()
        weight = torch.randn(classes, math.prod(SHAPE), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        self.weight = torch.nn.Parameter((scale * weight / weight.norm(dim=1, keepdim=True)).to(dtype), False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert len(images), "called with an empty batch"
        return (images.to(self.weight.dtype).flatten(1) - 0.5) @ self.weight.T

    def exact_logits(self, images: torch.Tensor) -> torch.Tensor:
        return (images.double().flatten(1) - 0.5) @ self.weight.double().T

    def samples(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images around .5, each on a way from one class to another, and their classes; none next to a boundary."""
        generator, weight = torch.Generator().manual_seed(2), self.weight.double()
        true = torch.arange(2 * COUNT) % len(weight)
        other = (true + 1 + torch.randint(len(weight) - 1, (2 * COUNT,), generator=generator)) % len(weight)
        spread = 0.7 + 0.3 * torch.rand(2 * COUNT, weight.shape[1], generator=generator)
        far = torch.linspace(0.02, 0.2, 2 * COUNT)[:, None]
        images = (0.5 + far * (weight[true] - weight[other]).sign() * spread).float().reshape(-1, *SHAPE)
        labels = self.exact_logits(images).argmax(dim=1)
        distant = (self.distances(images, labels, "linf") > 0.004).nonzero().flatten()[::2][:COUNT]
        return images[distant], labels[distant]

    def distances(self, images: torch.Tensor, labels: torch.Tensor, norm: str) -> torch.Tensor:
        """The distance to the nearest boundary, where [0, 1] binds nowhere."""
        logits, weight = self.exact_logits(images), self.weight.double()
        slopes = (weight[labels][:, None] - weight).norm(p=DUALS[norm], dim=2)
        ways = (logits.gather(1, labels[:, None]) - logits) / slopes
        return ways.scatter(1, labels[:, None], math.inf).amin(dim=1)

    def after_one_step(self, images: torch.Tensor, labels: torch.Tensor, eps: float, norm: str) -> torch.Tensor:
        """Whether the step of size eps along the cross-entropy's direction leaves each sample right."""
        others = self.exact_logits(images).scatter(1, labels[:, None], -math.inf).softmax(dim=1)
        direction = others.scatter(1, labels[:, None], -1.0) @ self.weight.double()
        direction = direction.sign() if norm == "linf" else direction / direction.norm(dim=1, keepdim=True)
        return self.exact_logits(images + eps * direction.reshape(images.shape)).argmax(dim=1) == labels


@pytest.fixture
def run(streams):
    def run(attack: Attack, model: Planes, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Which samples the attack leaves right; its points are within its budget."""
        crafted = attack.run(model, images, labels, streams(range(len(images))))
        budget = attack.budget()
        assert crafted.dtype == torch.float32
        assert budget is not None
        away = (crafted - images).double().flatten(1).norm(p=ORDERS[budget.norm], dim=1)
        assert (away <= budget.eps * (1 + 1e-5) + 1e-6).all()
        return model(crafted).float().argmax(dim=1) == labels

    return run


def budget_attacks(eps: float, norm: str) -> dict[str, Attack]:
    return {
        "fgsm": FastGradientSign(eps, norm=norm),
        "pgd": ProjectedGradientDescent(eps, norm=norm),
        "pgd of 10 steps": ProjectedGradientDescent(eps, norm=norm, steps=10),
        "pgd of 20 steps": ProjectedGradientDescent(eps, norm=norm, steps=20),
        "apgd": AutoPgd(eps, norm, steps=50),
        "apgd-t": TargetedAutoPgd(eps, norm, steps=50),
        "autoattack": AutoAttack(eps=eps, norm=norm, steps=50, queries=100),
    }


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("scale", "dtype"), LOGITS)
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_attacks_with_a_budget_leave_what_arithmetic_says(classes, scale, dtype, norm, run):
    model = Planes(classes, scale, dtype).eval()
    images, labels = model.samples()
    distances = model.distances(images, labels, norm)
    eps = float(f"{distances.median():.3g}")
    counted = (distances - eps).abs() > (0.02 * eps if dtype == torch.float16 else 0)
    exact = int((counted & (distances > eps)).sum())
    stepped = int((counted & model.after_one_step(images, labels, eps, norm)).sum())
    attacks = budget_attacks(eps, norm)
    if classes == 2:
        attacks |= {
            "margin": ProjectedGradientDescent(eps, norm=norm, loss="margin"),
            "rand": AutoAttack("rand", eps, norm, steps=50),
        }
        if norm == "linf":
            attacks["square"] = SquareAttack(eps, queries=1500)
    for name, attack in attacks.items():
        left = int((counted & run(attack, model, images, labels)).sum())
        if classes == 2 or name in ("apgd-t", "autoattack"):
            assert abs(left - exact) <= 1, name
        else:
            assert abs(left - stepped) <= 1 if name == "fgsm" else left <= stepped + 0.02 * COUNT, name
            assert scale < 1e4 or left <= exact + 0.04 * COUNT, name


@pytest.mark.parametrize(("scale", "dtype"), LOGITS)
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_minimal_attacks_find_the_distance(classes, scale, dtype, streams):
    model = Planes(classes, scale, dtype).eval()
    images, labels = model.samples()
    far = model.distances(images, labels, "l1") < 0.25  # a single pixel stays within [0, 1]
    off = 0.1 if dtype == torch.float16 else 0.02
    for attack in MINIMAL:
        norm = attack.minimized_norm()
        crafted = attack.run(model, images, labels, streams(range(len(images))))
        found = (crafted - images).double().flatten(1).norm(p=ORDERS[norm], dim=1)
        ratio = found / model.distances(images, labels, norm)
        assert (model(crafted).float().argmax(dim=1) != labels).all(), attack
        assert ((ratio - 1).abs() <= off)[far if norm == "l1" else ...].all(), attack


@pytest.mark.parametrize(("scale", "dtype"), LOGITS)
@pytest.mark.parametrize("classes", [2, 10])
def test_fgsms_search_finds_the_first_of_a_thousand_steps_along_the_cross_entropy(classes, scale, dtype, streams):
    model = Planes(classes, scale, dtype).eval()
    images, labels = model.samples()
    sizes = torch.arange(1, 1001) / 1000
    first = torch.full((len(images),), math.inf)
    for size in sizes[:300].tolist():
        first[first.isinf() & ~model.after_one_step(images, labels, size, "linf")] = size
    crafted = FastGradientSign(search="minimal").run(model, images, labels, streams(range(len(images))))
    found = (crafted - images).flatten(1).abs().amax(dim=1)
    assert first.isfinite().sum() > 0.9 * len(images)
    off = 0.1 * first + 0.001 if dtype == torch.float16 else torch.tensor(0.0011)
    within = (found - first).abs() <= off
    inside = (images - 0.5).flatten(1).abs().amax(dim=1) + first < 0.5
    if dtype != torch.float16 or classes == 2:  # its logits do not tell which of two other classes is the likelier
        assert within[inside].all()
    if classes == 2:
        exact = model.distances(images, labels, "linf")
        assert (found <= 1.1 * exact + 0.001 if dtype == torch.float16 else found <= exact + 0.0011)[inside].all()
