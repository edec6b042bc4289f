from __future__ import annotations

import pytest
import torch
from tests.plugins.attacks.classifiers import Linear, Noisy, Staircase, Undefined, inner_images

from advbench.api import Budget, Goal, ParameterError
from advbench_attacks.black_box.square import SquareAttack
from advbench_attacks.gradient.apgd import AutoPgd, TargetedAutoPgd
from advbench_attacks.gradient.autoattack import AutoAttack
from advbench_attacks.losses import margin
from advbench_attacks.minimal.fab import TargetedFab

pytestmark = pytest.mark.slow

CHEAP = {"steps": 2, "targets": 3, "queries": 60}
EPS = {"linf": 0.03, "l2": 0.15}
ORDERS = {"linf": float("inf"), "l2": 2.0}
ATTACKS = [AutoAttack(eps=eps, norm=norm, **CHEAP) for norm, eps in EPS.items()]
ATTACKS += [AutoAttack("rand", eps, norm, steps=5) for norm, eps in EPS.items()]


def alone(attack: AutoAttack):
    """What the parts are as attacks of their own."""
    shared = {"eps": attack.eps, "norm": attack.norm, "steps": attack.steps, "early_stop": attack.early_stop}
    if attack.version == "rand":
        return [AutoPgd(**shared), AutoPgd(**shared, loss="dlr")]
    return [
        AutoPgd(**shared),
        TargetedAutoPgd(**shared, targets=attack.targets),
        TargetedFab(attack.norm, attack.targets, attack.steps),
        SquareAttack(attack.eps, attack.norm, attack.queries),
    ]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
@pytest.mark.parametrize("wrap", [lambda network: network, Staircase], ids=["smooth", "without gradients"])
def test_it_breaks_the_samples_of_all_parts_and_reports_the_first_part(attack, wrap, network, many, streams):
    images, labels = many
    model = wrap(network).eval()
    broken = []
    for part in alone(attack):
        crafted = part.run(model, images, labels, streams(range(100)))
        near = torch.linalg.vector_norm((crafted - images).flatten(1), ORDERS[attack.norm], dim=1) <= attack.eps + 1e-6
        broken.append((model(crafted).argmax(dim=1) != labels) & near)
    broken = torch.stack(broken)
    crafted, notes = attack.run_with_notes(model, images, labels, streams(range(100)))
    assert torch.equal(model(crafted).argmax(dim=1) != labels, broken.any(dim=0))
    assert torch.equal(
        notes["component"], torch.where(broken.any(dim=0), broken.int().argmax(dim=0), -1).to(torch.int8)
    )
    assert 0 < broken.any(dim=0).sum() < 100


def test_each_part_of_the_standard_version_breaks_further_samples(network, many, streams):
    found = torch.cat(
        [
            ATTACKS[0].run_with_notes(model, *many, streams(range(100)))[1]["component"]
            for model in (network, Staircase(network).eval())
        ]
    )
    assert set(found.tolist()) == {-1, 0, 1, 2, 3}
    assert list(ATTACKS[0].parts()) == ["apgd-ce", "apgd-t", "fab-t", "square"]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_part_attacks_only_samples_that_are_not_broken_yet(attack, network, many, streams, recorded):
    recorder = recorded(network)
    _, notes = attack.run_with_notes(recorder, *many, streams(range(100)))
    fooled_by_first = (notes["component"] == 0).sum()
    assert fooled_by_first > 0
    first = 1 + 1 + (1 + attack.steps) + 1  # its own look, the part's clean look, start and steps, the check
    assert set(recorder.batches[:first]) == {100}
    assert max(recorder.batches[first:]) == 100 - fooled_by_first


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_run_returns_the_images_of_run_with_notes(attack, network, many, streams):
    assert torch.equal(
        attack.run(network, *many, streams(range(100))), attack.run_with_notes(network, *many, streams(range(100)))[0]
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_images_are_within_the_budget_and_survivors_have_a_higher_margin(attack, network, many, streams):
    images, labels = many
    kept = images.clone()
    crafted, notes = attack.run_with_notes(network, images, labels, streams(range(100)))
    away = torch.linalg.vector_norm((crafted - images).double().flatten(1), ORDERS[attack.norm], dim=1)
    survivors = notes["component"] == -1
    assert attack.budget() == Budget(attack.norm, attack.eps)
    assert (away <= attack.eps + 1e-6).all()
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    assert (crafted.dtype, crafted.shape, crafted.requires_grad) == (torch.float32, images.shape, False)
    assert torch.equal(images, kept)
    assert survivors.any()
    assert (margin(network(crafted), Goal(labels)) > margin(network(images), Goal(labels)))[survivors].all()


@pytest.mark.parametrize("norm", EPS)
def test_fab_counts_only_within_eps(norm, streams):
    model, images = Linear(), inner_images(16)
    labels = model(images).argmax(dim=1)
    smallest = model.distance(images, labels, norm)
    eps = float(smallest.median())
    found = AutoAttack(eps=eps, norm=norm, steps=20).parts()["fab-t"](model, images, labels, streams(range(16)))
    moved = (found != images).flatten(1).any(dim=1)
    away = torch.linalg.vector_norm((found - images).double().flatten(1), ORDERS[norm], dim=1)
    assert torch.equal(moved, smallest < 0.999 * eps)
    assert (away <= eps + 1e-6).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_samples_result_does_not_depend_on_its_batch(attack, network, many, streams):
    images, labels = many[0][:12], many[1][:12]

    def run(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ids = rows.tolist()
        model = Noisy(network, streams(ids, 1))
        crafted, notes = attack.run_with_notes(model, images[rows], labels[rows], streams(ids))
        return crafted, notes["component"]

    whole = run(torch.arange(12))
    parts = [run(rows) for rows in torch.arange(12).split([1, 8, 3])]
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), whole[0], atol=1e-3, rtol=0)
    assert torch.equal(torch.cat([part[1] for part in parts]), whole[1])
    assert len(set(whole[1].tolist())) > 1


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_misclassified_sample_keeps_its_clean_image(attack, network, images, labels, streams):
    wrong = torch.tensor([False, True, False, False, True, False])
    labels = torch.where(wrong, (labels + 1) % 10, labels)
    crafted, notes = attack.run_with_notes(network, images, labels, streams(range(6)))
    assert torch.equal(crafted[wrong], images[wrong])
    assert (notes["component"][wrong] == -1).all()
    assert (crafted[~wrong] != images[~wrong]).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_nan_gradients_give_valid_images(attack, images, streams):
    crafted = attack.run(Undefined().eval(), images, torch.full((6,), 4), streams(range(6)))
    assert crafted.isfinite().all()
    away = torch.linalg.vector_norm((crafted - images).double().flatten(1), ORDERS[attack.norm], dim=1)
    assert (away <= attack.eps + 1e-6).all()


def test_early_stop_breaks_as_many_samples_with_fewer_passes(network, many, streams, recorded):
    broken, passes = [], []
    for early_stop in (False, True):
        attack = AutoAttack(eps=0.05, steps=10, targets=3, queries=30, early_stop=early_stop)
        recorder = recorded(network)
        broken.append(network(attack.run(recorder, *many, streams(range(100)))).argmax(dim=1) != many[1])
        passes.append(sum(recorder.batches))
    assert torch.equal(*broken)
    assert passes[1] < passes[0]


@pytest.mark.parametrize(("version", "classes"), [("standard", 2), ("standard", 3), ("rand", 2)])
def test_with_few_classes_the_margin_replaces_the_dlr_loss(version, classes, streams):
    model, images = Linear(classes), inner_images(16)
    labels = model(images).argmax(dim=1)
    smallest = model.distance(images, labels, "linf")
    attack = AutoAttack(version, 1.01 * float(smallest.median()), steps=20)
    ratio = list(attack.parts(classes).values())[1]
    found = ratio(model, images, labels, streams(range(16)))
    assert torch.equal(model(found).argmax(dim=1) != labels, smallest < attack.eps)
    crafted = attack.run(model, images, labels, streams(range(16)))
    assert torch.equal(model(crafted).argmax(dim=1) != labels, smallest < attack.eps)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"version": "plus"}, "version=plus"),
        ({"eps": "-1"}, "eps=-1"),
        ({"norm": "l1"}, "norm=l1"),
        ({"version": "rand", "targets": "3"}, "no meaning with version=rand"),
        ({"version": "rand", "queries": "3"}, "no meaning with version=rand"),
    ],
)
def test_parameters_out_of_range_or_without_effect_are_rejected(given, says):
    with pytest.raises(ParameterError, match=says):
        AutoAttack.from_text(given)


def test_parameters_without_effect_in_a_version_are_not_listed():
    rand = AutoAttack.from_text({"version": "rand"})
    assert list(rand.values()) == ["version", "eps", "norm", "steps", "early_stop"]
    assert [parameter.name for parameter in AutoAttack.parameters({"version": "rand"})] == list(rand.values())
    assert AutoAttack.from_values(rand.values()) == rand
    with pytest.raises(ParameterError, match="queries has no meaning with version=rand"):
        AutoAttack("rand", queries=10)
