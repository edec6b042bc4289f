"""Attacks with a goal: they reach the targets, in any batch, and leave alone what has the target's class already."""

from __future__ import annotations

import pytest
import torch
from tests.plugins.attacks.classifiers import Constant, Noisy
from tests.plugins.attacks.test_foolbox_attack import NEEDING_NUMBA, OFFERED, quick

from advbench.api import Attack, Goal
from advbench_attacks.black_box.square import SquareAttack
from advbench_attacks.foolbox import catalogue as foolbox_catalogue
from advbench_attacks.foolbox.attack import FoolboxAttack
from advbench_attacks.gradient.apgd import AutoPgd, TargetedAutoPgd
from advbench_attacks.gradient.fgsm import FastGradientSign
from advbench_attacks.gradient.pgd import ProjectedGradientDescent
from advbench_attacks.losses import dlr_loss, logsumexp_margin, margin
from advbench_attacks.minimal.cw import CarliniWagnerL2
from advbench_attacks.minimal.ddn import DecoupledDirectionAndNorm
from advbench_attacks.minimal.fab import TargetedFab
from advbench_attacks.minimal.fmn import FastMinimumNorm

pytestmark = pytest.mark.slow

LOSSES = ("ce", "dlr", "margin")
FIXED: list[Attack] = [
    *(ProjectedGradientDescent(0.7, steps=40, loss=loss, goal="next") for loss in ("ce", "margin")),
    ProjectedGradientDescent(0.9, steps=40, loss="dlr", goal="next"),
    ProjectedGradientDescent(4.0, norm="l2", steps=40, goal="next"),
    ProjectedGradientDescent(0.7, steps=40, early_stop=True, restarts=2, goal="next"),
    ProjectedGradientDescent(0.7, steps=40, engine="foolbox", goal="next"),
    *(AutoPgd(0.7, loss=loss, steps=40, goal="next") for loss in LOSSES),
    *(TargetedAutoPgd(eps, norm, steps=40, goal="next") for norm, eps in (("linf", 0.7), ("l2", 4.0))),
    SquareAttack(0.7, queries=1500, goal="next"),
]
MINIMAL: list[Attack] = [
    ProjectedGradientDescent(search="minimal", steps=10, goal="next"),
    CarliniWagnerL2(search_steps=4, steps=60, learning_rate=0.05, goal="next"),
    DecoupledDirectionAndNorm(60, goal="next"),
    *(FastMinimumNorm(norm, 60, goal="next") for norm in ("linf", "l2", "l1")),
    *(TargetedFab(norm, steps=15, goal="next") for norm in ("linf", "l2")),
]
WEAK: list[Attack] = [FastGradientSign(0.5, goal="next"), FastGradientSign(search="minimal", goal="next")]
FOOLBOX = [name for name in OFFERED if foolbox_catalogue.untargeted_only(foolbox_catalogue.find(name)) is None]
STRONG_FOOLBOX = [
    name
    for name in FOOLBOX
    if foolbox_catalogue.access(foolbox_catalogue.find(name)) == "gradients" and "CarliniWagner" not in name
]


@pytest.fixture
def targets(labels: torch.Tensor) -> torch.Tensor:
    """A class beside the label for each image: near ones and far ones."""
    return (labels + torch.tensor([1, 2, 4, 5, 7, 9])) % 10


@pytest.mark.parametrize("attack", [*FIXED, *MINIMAL], ids=str)
def test_targets_are_reached(attack, network, images, labels, targets, streams):
    crafted = attack.craft(network, images, Goal(labels, targets), streams(range(6)))
    assert torch.equal(network(crafted).argmax(dim=1), targets)
    budget = attack.budget()
    if budget is not None:
        order = {"linf": float("inf"), "l2": 2.0}[budget.norm]
        assert ((crafted - images).flatten(1).norm(p=order, dim=1) <= budget.eps + 1e-5).all()


@pytest.mark.parametrize("attack", WEAK, ids=str)
def test_one_step_towards_the_target_raises_its_logit(attack, network, images, labels, targets, streams):
    goal = Goal(labels, targets)
    crafted = attack.craft(network, images, goal, streams(range(6)))
    reached = goal.reached(network(crafted))
    moved = (crafted != images).flatten(1).any(dim=1)
    assert torch.equal(moved, reached) if attack.budget() is None else moved.all()
    higher = network(crafted).gather(1, targets[:, None]) > network(images).gather(1, targets[:, None])
    assert higher[moved].all()
    assert reached.any()


@pytest.mark.parametrize("attack", [*FIXED, *MINIMAL, *WEAK], ids=str)
def test_a_targeted_result_does_not_depend_on_the_batch(attack, network, images, labels, targets, streams):
    goal = Goal(labels, targets)
    whole = attack.craft(network, images, goal, streams(range(6)))
    parts = [attack.craft(network, images[i], goal[i], streams(i.tolist())) for i in torch.arange(6).split([1, 3, 2])]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-3, rtol=0)


@pytest.mark.parametrize("attack", [one for one in (*FIXED, *MINIMAL, *WEAK) if "foolbox" not in str(one)], ids=str)
def test_behind_a_stochastic_classifier_neither(attack, network, images, labels, targets, streams):
    goal = Goal(labels, targets)

    def run(rows: torch.Tensor) -> torch.Tensor:
        ids = rows.tolist()
        return attack.craft(Noisy(network, streams(ids, 1)), images[rows], goal[rows], streams(ids))

    parts = [run(rows) for rows in torch.arange(6).split([1, 3, 2])]
    torch.testing.assert_close(torch.cat(parts), run(torch.arange(6)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("attack", MINIMAL, ids=str)
def test_only_the_target_counts_not_the_label(attack, network, images, labels, targets, streams):
    predicted = labels
    labels = (predicted + 3) % 10  # every image is misclassified already
    targets = torch.where(torch.arange(6) < 2, predicted, targets)  # two as their target
    crafted = attack.craft(network, images, Goal(labels, targets), streams(range(6)))
    assert torch.equal(crafted[:2], images[:2])
    assert torch.equal(network(crafted).argmax(dim=1), targets)


@pytest.mark.parametrize("attack", [*MINIMAL, FastGradientSign(search="minimal", goal="next")], ids=str)
def test_an_unreachable_target_leaves_the_clean_images(attack, images, streams):
    goal = Goal(torch.zeros(6, dtype=torch.int64), torch.tensor([1, 2] * 3))
    assert torch.equal(attack.craft(Constant().eval(), images, goal, streams(range(6))), images)


@pytest.mark.parametrize("loss", [margin, logsumexp_margin])
def test_a_targeted_loss_is_minus_the_untargeted_one_of_the_target(loss, labels, targets):
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(logits, Goal(labels, targets)), -loss(logits, Goal(targets)))


def test_the_targeted_dlr_does_not_depend_on_the_scale_of_logits():
    logits, goal = torch.tensor([[4.0, 1.0, 3.0, 0.0]] * 2), Goal(torch.tensor([0, 2]), torch.tensor([1, 0]))
    for scale in (1e-3, 1.0, 1e3):
        torch.testing.assert_close(dlr_loss(scale * logits, goal), torch.tensor([-3 / 3.5, 1 / 3.5]))
        torch.testing.assert_close(dlr_loss(scale * logits[:, :3], goal), torch.tensor([-1.0, 1 / 3]))


def test_the_targets_cross_entropy_does_not_vanish_where_the_model_is_confident(
    network, images, labels, targets, streams
):
    class Confident(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 1e4 * network(images)

    attack = ProjectedGradientDescent(0.7, goal="next")
    crafted = attack.craft(Confident().eval(), images, Goal(labels, targets), streams(range(6)))
    assert (network(crafted).argmax(dim=1) == targets).sum() >= 5


@pytest.mark.parametrize("name", FOOLBOX)
def test_foolboxs_attacks_aim_at_the_target(name, network, images, labels, targets, streams):
    attack = quick(name, goal="next")
    goal = Goal(labels, targets)[:3]
    crafted = attack.craft(network, images[:3], goal, streams(range(3)))
    reached = goal.reached(network(crafted))
    if attack.budget() is None:
        assert torch.equal(crafted[~reached], images[:3][~reached])
    if name in STRONG_FOOLBOX:
        assert goal.margin(network(crafted)).mean() > goal.margin(network(images[:3])).mean()


def test_foolboxs_attacks_that_need_a_target_work(network, images, labels, targets, streams):
    attack = FoolboxAttack("GenAttack", eps=0.9, steps=200, population=20, goal="next")
    assert attack.access == "scores"
    goal = Goal(labels, targets)[:2]
    whole = attack.craft(network, images[:2], goal, streams(range(2)))
    assert goal.reached(network(whole)).any()
    single = attack.craft(network, images[1:2], goal[1:], streams([1]))
    assert torch.equal(single, whole[1:])


def test_most_of_foolboxs_attacks_can_be_targeted():
    assert {"LinfProjectedGradientDescentAttack", "DDNAttack", "L2CarliniWagnerAttack"} <= set(FOOLBOX)
    untargeted = {"L2DeepFoolAttack", "BoundaryAttack", "NewtonFoolAttack", "LinfFastGradientAttack", *NEEDING_NUMBA}
    assert not untargeted & set(FOOLBOX)


@pytest.mark.parametrize("attack", [FastGradientSign, ProjectedGradientDescent])
def test_both_engines_take_the_same_targeted_steps(attack, network, images, labels, targets, streams):
    goal = Goal(labels, targets)
    native, foolbox = (
        attack(0.1, engine=engine, goal="next").craft(network, images, goal, streams(range(6)))
        for engine in ("native", "foolbox")
    )
    torch.testing.assert_close(native, foolbox, atol=1e-6, rtol=0)
