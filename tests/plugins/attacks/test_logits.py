"""Models whose logits are not float32, that cannot answer about no image, or that are sure of themselves."""

from __future__ import annotations

import pytest
import torch

from advbench.api import Attack
from advbench_attacks.black_box.noise import RandomNoise
from advbench_attacks.black_box.square import SquareAttack
from advbench_attacks.foolbox.attack import FoolboxAttack
from advbench_attacks.gradient.apgd import AutoPgd, TargetedAutoPgd
from advbench_attacks.gradient.autoattack import AutoAttack
from advbench_attacks.gradient.fgsm import FastGradientSign
from advbench_attacks.gradient.pgd import ProjectedGradientDescent
from advbench_attacks.minimal.cw import CarliniWagnerL2
from advbench_attacks.minimal.ddn import DecoupledDirectionAndNorm
from advbench_attacks.minimal.deepfool import DeepFool
from advbench_attacks.minimal.fab import TargetedFab
from advbench_attacks.minimal.fmn import FastMinimumNorm

ATTACKS: list[Attack] = [
    *(FastGradientSign(0.1, norm=norm, loss=loss) for norm in ("linf", "l2") for loss in ("ce", "dlr", "margin")),
    *(ProjectedGradientDescent(0.1, steps=5, norm=norm, loss=loss) for norm, loss in (("linf", "ce"), ("l2", "dlr"))),
    ProjectedGradientDescent(0.1, steps=5, early_stop=True, restarts=2),
    FastGradientSign(0.1, engine="foolbox"),
    ProjectedGradientDescent(0.1, steps=5, engine="foolbox"),
    FastGradientSign(search="minimal"),
    ProjectedGradientDescent(search="minimal", steps=5),
    AutoPgd(0.1, steps=5, loss="dlr"),
    TargetedAutoPgd(0.1, steps=5, targets=2),
    AutoAttack(eps=0.1, steps=5, targets=2, queries=20),
    SquareAttack(0.1, queries=30),
    TargetedFab(steps=5),
    DeepFool(),
    DeepFool(engine="foolbox", norm="linf"),
    CarliniWagnerL2(steps=20, search_steps=3),
    CarliniWagnerL2(steps=20, search_steps=3, engine="foolbox"),
    DecoupledDirectionAndNorm(20),
    *(FastMinimumNorm(norm, 20) for norm in ("linf", "l2", "l1")),
    RandomNoise(queries=3),
    FoolboxAttack("L2BasicIterativeAttack", eps=0.5, steps=3),
    FoolboxAttack("DDNAttack", steps=5),
]


class Cast(torch.nn.Module):
    """A network that answers in a dtype."""

    def __init__(self, network: torch.nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert len(images), "called with an empty batch"
        return self.network(images).to(self.dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_logits_of_any_floating_dtype_are_as_good_as_the_same_in_float32(attack, dtype, network, images, streams):
    labels = network(images).argmax(dim=1)
    labels[1] = (labels[1] + 1) % 10  # one that takes no part
    answer = Cast(network, dtype).eval()
    own = attack.run(answer, images, labels, streams(range(6)))
    back = attack.run(Cast(answer, torch.float32).eval(), images, labels, streams(range(6)))
    assert own.dtype == torch.float32
    assert torch.equal(own, back)
    if dtype == torch.float64:
        usual = attack.run(network, images, labels, streams(range(6)))
        assert torch.equal(own, usual)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_no_attack_asks_about_no_image(attack, network, images, streams):
    labels = network(images).argmax(dim=1)
    for row in range(2):
        for wrong in (0, 1):
            one = images[row : row + 1], (labels[row : row + 1] + wrong) % 10
            attack.run(Cast(network, torch.float32).eval(), *one, streams([row]))


@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_network_that_is_a_million_times_as_sure_is_attacked_alike(norm, loss, early_stop, network, images, streams):
    class Sure(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return network(images) * 2.0**20

    labels = network(images).argmax(dim=1)
    logits = Sure()(images)
    assert (torch.nn.functional.cross_entropy(logits, labels, reduction="none") == 0).all()
    for attack in (
        FastGradientSign(0.1, norm=norm, loss=loss),
        ProjectedGradientDescent(0.1, steps=5, norm=norm, loss=loss, early_stop=early_stop),
    ):
        before = network(images).gather(1, labels[:, None]) - network(images)
        crafted = attack.run(Sure().eval(), images, labels, streams(range(6)))
        after = network(crafted).gather(1, labels[:, None]) - network(crafted)
        nearest = [gaps.scatter(1, labels[:, None], float("inf")).amin(dim=1) for gaps in (before, after)]
        assert (nearest[1] < nearest[0]).all()
