from __future__ import annotations

import pytest
import torch
from tests.plugins.attacks.classifiers import Holed, Linear, Undefined, inner_images, sizes

from advbench.api import Budget, ContractError, Goal, ParameterError
from advbench_attacks.black_box.square import SquareAttack
from advbench_attacks.black_box.square_search import pixel_share
from advbench_attacks.gradient import apgd_search
from advbench_attacks.gradient.apgd import AutoPgd, TargetedAutoPgd
from advbench_attacks.gradient.fgsm import FastGradientSign
from advbench_attacks.gradient.pgd import ProjectedGradientDescent
from advbench_attacks.losses import dlr_loss, logsumexp_margin, margin, targeted_dlr_loss, targeted_margin

NORMS = ("linf", "l2")
ASCENTS = [
    *(AutoPgd(0.2, norm, loss, steps=20) for norm in NORMS for loss in ("ce", "dlr")),
    *(TargetedAutoPgd(0.2, norm, 2, steps=20) for norm in NORMS),
]
ATTACKS = [*ASCENTS, *(SquareAttack(0.2, norm, queries=60) for norm in NORMS)]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_images_are_within_the_budget_and_inputs_unchanged(attack, network, many, streams):
    images, labels = many
    kept = images.clone(), labels.clone()
    crafted = attack.run(network, images, labels, streams(range(100)))
    assert attack.budget() == Budget(attack.norm, 0.2)
    assert (sizes(crafted - images, attack.norm) <= 0.2 + 1e-6).all()
    assert sizes(crafted - images, attack.norm).max() > 0.19
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    assert (crafted.dtype, crafted.shape, crafted.requires_grad) == (torch.float32, images.shape, False)
    assert torch.equal(images, kept[0])
    assert torch.equal(labels, kept[1])


@pytest.mark.parametrize("norm", NORMS)
def test_targeted_apgd_crosses_a_linear_boundary_within_eps(norm, streams):
    model, images = Linear(), inner_images(6)
    labels = model(images).argmax(dim=1)
    for i, distance in enumerate(model.distance(images, labels, norm).tolist()):
        image, label = images[i : i + 1], labels[i : i + 1]
        for share, misclassified in ((1.02, True), (0.98, False)):
            crafted = TargetedAutoPgd(share * distance, norm, steps=50).run(model, image, label, streams([i]))
            assert (model(crafted).argmax(dim=1) != label).item() is misclassified


@pytest.mark.parametrize(
    ("attack", "nearly"),
    [
        *((AutoPgd(0.01, norm, steps=50), 0.999) for norm in NORMS),
        (SquareAttack(0.01, "linf", 1000), 0.999),
        # In L2 its changes are bumps of three pixels or more, of which not every direction is made.
        (SquareAttack(0.01, "l2", 1000), 0.6),
    ],
    ids=str,
)
def test_the_margin_of_a_linear_classifier_reaches_its_maximum(attack, nearly, streams):
    model, images = Linear(2), inner_images(24)
    labels = model(images).argmax(dim=1)
    safe = model.distance(images, labels, attack.norm) > 0.011  # a search ends at the first success, not the optimum
    images, labels = images[safe], labels[safe]
    assert len(images) >= 12
    before = margin(model(images), Goal(labels))
    found = margin(model(attack.run(model, images, labels, streams(range(len(images))))), Goal(labels)) - before
    best = model.best_margin(images, labels, attack.norm, 0.01) - before
    assert (found <= best * 1.001).all()
    assert (found >= best * nearly).all()


def test_apgd_breaks_no_fewer_samples_than_pgd_with_a_higher_loss(network, many, streams):
    images, labels = many
    for eps in (0.03, 0.05):
        ours, theirs = (
            attack.run(network, images, labels, streams(range(100)))
            for attack in (AutoPgd(eps, steps=20), ProjectedGradientDescent(eps, steps=20))
        )
        robust = [(network(crafted).argmax(dim=1) == labels).sum() for crafted in (ours, theirs)]
        assert 0 < robust[0] <= robust[1] < 100
        ours_loss, theirs_loss = (logsumexp_margin(network(points), Goal(labels)).mean() for points in (ours, theirs))
        assert ours_loss > theirs_loss - 1e-4


@pytest.mark.parametrize("norm", NORMS)
def test_apgd_takes_the_steps_of_the_paper(norm, network, many, streams):
    eps, images, labels = {"linf": 0.05, "l2": 0.3}[norm], many[0][:40], many[1][:40]
    rng = streams(range(40)).derive("apgd-ce")
    if norm == "linf":
        starts = (images + rng.uniform(1, 6, 6, low=-eps, high=eps)).clamp(0, 1)
    else:
        directions = rng.normal(1, 6, 6)
        starts = (images + eps * directions / directions.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)).clamp(0, 1)
    by_hand = [_by_hand(network, *one, norm, eps, 30) for one in zip(images, labels, starts, strict=True)]
    crafted = AutoPgd(eps, norm, steps=30).run(network, images, labels, streams(range(40)))
    away = (crafted - torch.stack([point for point, _ in by_hand])).abs().amax(dim=(1, 2, 3))
    assert sum(halvings for _, halvings in by_hand) > 80, "the step must have been halved for this to show anything"
    assert (away < 1e-4).float().mean() > 0.9  # of equal losses rounding may make either the higher


def _by_hand(network, image, label, start, norm, eps, steps):
    """Algorithm 1 of Croce and Hein on one sample, with the cross-entropy in double precision."""

    def project(point):
        change = point - image
        change = change.clamp(-eps, eps) if norm == "linf" else change * min(1, eps / max(change.norm().item(), 1e-30))
        return (image + change).clamp(0, 1)

    def evaluate(point):
        point = point.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(network(point[None]).double(), label[None])
        gradient = torch.autograd.grad(loss, point)[0]
        return loss.item(), gradient.sign() if norm == "linf" else gradient / gradient.norm()

    (loss, direction), size, halvings = evaluate(start), 2 * eps, 0
    before, point = start, start
    best = best_before = (loss, start, direction)
    rises, last, halved = 0, 0, False
    for step in range(1, steps + 1):
        candidate = project(point + size * direction)
        if step > 1:
            candidate = project(point + 0.75 * (candidate - point) + 0.25 * (point - before))
        before, point, old = point, candidate, loss
        loss, direction = evaluate(point)
        rises += loss > old
        if loss > best[0]:
            best = (loss, point, direction)
        if step in apgd_search.checkpoints(steps):
            halved = rises < 0.75 * (step - last) or (not halved and best[0] == best_before[0])
            if halved:
                size, halvings = size / 2, halvings + 1
                loss, point, direction = best
            best_before, rises, last = best, 0, step
    return best[1], halvings


@pytest.mark.parametrize("norm", NORMS)
def test_a_maximum_inside_the_ball_is_found(norm, streams):
    centre = torch.full((1, 1, 3, 4), 0.5)

    class Hill(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            height = -(images - centre).flatten(1).square().sum(dim=1)
            return torch.stack((height * 0, height), dim=1)

    images, labels = inner_images(8), torch.zeros(8, dtype=torch.int64)
    crafted = AutoPgd({"linf": 0.3, "l2": 1.0}[norm], norm).run(Hill().eval(), images, labels, streams(range(8)))
    assert (sizes(images - centre, norm) > 0.1).all()
    assert (sizes(crafted - centre, norm) < 0.01).all()


@pytest.mark.parametrize(
    ("steps", "at"),
    [(100, [22, 41, 57, 70, 80, 87, 93, 99]), (10, [3, 5, 6, 7, 8, 9]), (2, [1]), (1, [])],
)
def test_the_checkpoints_are_those_of_the_paper(steps, at):
    assert apgd_search.checkpoints(steps) == at


def test_dlr_losses_equal_the_papers_and_do_not_depend_on_the_scale_of_logits():
    logits, labels, targets = torch.tensor([[4.0, 1.0, 3.0, 0.0]] * 2), torch.tensor([0, 2]), torch.tensor([1, 1])
    for scale in (1e-3, 1.0, 1e3):
        torch.testing.assert_close(dlr_loss(scale * logits, Goal(labels)), torch.tensor([-1 / 3, 1 / 3]))
        difference = targeted_margin(scale * logits, labels, targets)
        torch.testing.assert_close(targeted_dlr_loss(scale * logits, difference), torch.tensor([-3 / 3.5, -2 / 3.5]))


def test_squares_shrink_as_in_the_paper_in_proportion_to_queries():
    assert [pixel_share(query, 10_000) for query in (1, 10, 11, 50, 51, 201)] == [0.8, 0.8, 0.4, 0.4, 0.2, 0.1]
    assert pixel_share(9999, 10_000) == 0.8 / 512
    assert [pixel_share(query, 1000) for query in (1, 2, 21, 999)] == [0.8, 0.4, 0.1, 0.8 / 512]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_the_start_is_random_and_comes_from_the_samples_streams(attack, network, images, labels, streams):
    one, again, other = (attack.run(network, images, labels, streams(range(6), seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert (one != other).flatten(1).any(dim=1).any()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_nan_gradients_give_valid_images(attack, images, streams):
    crafted = attack.run(Undefined().eval(), images, torch.full((6,), 4), streams(range(6)))
    assert crafted.isfinite().all()
    assert (sizes(crafted - images, attack.norm) <= 0.2 + 1e-6).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_nan_logits_give_valid_images(attack, network, images, labels, streams):
    crafted = attack.run(Holed(network, images).eval(), images, labels, streams(range(6)))
    assert crafted.isfinite().all()
    assert (sizes(crafted - images, attack.norm) <= 0.2 + 1e-6).all()


@pytest.mark.parametrize("attack", ASCENTS, ids=str)
def test_apgd_works_under_no_grad(attack, network, images, labels, streams):
    usual = attack.run(network, images, labels, streams(range(6)))
    with torch.no_grad():
        assert torch.equal(attack.run(network, images, labels, streams(range(6))), usual)


def test_square_uses_logits_only_and_all_queries(network, images, labels, streams):
    calls: list[bool] = []

    class RecordingClassifier(torch.nn.Module):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            calls.append(torch.is_grad_enabled() or given.requires_grad)
            return network(given)

    SquareAttack(1e-4, queries=150).run(RecordingClassifier().eval(), images, labels, streams(range(6)))
    assert calls == [False] * 151  # the clean images first


@pytest.mark.parametrize("attack", [SquareAttack(0.2, norm, 300) for norm in NORMS], ids=str)
def test_square_breaks_more_samples_with_more_queries(attack, network, many, streams):
    images, labels = many
    few = SquareAttack(attack.eps, attack.norm, 3)
    robust = [
        (network(one.run(network, images, labels, streams(range(100)))).argmax(dim=1) == labels).sum()
        for one in (few, attack)
    ]
    assert robust[1] < 0.8 * robust[0]


def test_broken_samples_leave_the_batch_of_square(network, many, streams, recorded):
    recorder = recorded(network)
    SquareAttack(0.1, queries=100).run(recorder, *many, streams(range(100)))
    assert recorder.batches[1:] == sorted(recorder.batches[1:], reverse=True)
    assert recorder.batches[-1] < 80


@pytest.mark.parametrize("attack", ASCENTS, ids=str)
def test_early_stop_breaks_as_many_with_fewer_passes_and_a_lower_loss(attack, network, many, streams, recorded):
    images, labels = many
    values = {**attack.values(), "eps": 0.05 if attack.norm == "linf" else 0.2}
    misclassified, passes, losses = [], [], []
    for early_stop in (False, True):
        recorder = recorded(network)
        one = type(attack).from_values({**values, "early_stop": early_stop})
        logits = network(one.run(recorder, images, labels, streams(range(100))))
        misclassified.append(logits.argmax(dim=1) != labels)
        passes.append(sum(recorder.batches))
        losses.append(logsumexp_margin(logits, Goal(labels))[misclassified[-1]].mean())
    assert torch.equal(*misclassified)
    assert misclassified[0].any()
    assert passes[1] < passes[0]
    assert losses[1] < losses[0]


def test_broken_samples_skip_further_restarts_and_targets(network, many, streams, recorded):
    for attack, runs in ((AutoPgd(0.05, steps=4, restarts=3), 3), (TargetedAutoPgd(0.05, targets=3, steps=4), 3)):
        recorder = recorded(network)
        crafted = attack.run(recorder, *many, streams(range(100)))
        firsts = recorder.batches[1::5]
        assert len(firsts) == runs
        assert firsts[0] == 100
        assert sorted(firsts, reverse=True) == firsts
        assert firsts[-1] < 100
        assert (network(crafted).argmax(dim=1) == many[1]).sum() <= firsts[-1]


@pytest.mark.parametrize(
    "attack", [AutoPgd(loss="dlr"), FastGradientSign(loss="dlr"), ProjectedGradientDescent(loss="dlr")], ids=str
)
def test_too_few_classes_for_the_loss_raise_an_error_with_advice(attack, streams):
    model, images = Linear(2), inner_images(2)
    with pytest.raises(ContractError, match=r"^loss=dlr needs .* at least 3 classes, .* has 2; use loss=ce or "):
        attack.run(model, images, model(images).argmax(dim=1), streams(range(2)))


def test_more_targets_than_other_classes_use_all_of_them(streams, recorded):
    model, images = Linear(4), inner_images(8)
    labels = model(images).argmax(dim=1)
    recorder = recorded(model)
    three, nine = (
        TargetedAutoPgd(1e-4, targets=targets, steps=5).run(recorder, images, labels, streams(range(8)))
        for targets in (3, 9)
    )
    assert torch.equal(three, nine)
    assert recorder.batches == [8] * 2 * (1 + 3 * 6)


def test_two_classes_are_enough_for_the_cross_entropy(streams):
    model, images = Linear(2), inner_images(4)
    labels = model(images).argmax(dim=1)
    crafted = AutoPgd(0.5, steps=5).run(model, images, labels, streams(range(4)))
    assert (model(crafted).argmax(dim=1) != labels).all()


@pytest.mark.parametrize(
    ("attack", "key", "text"),
    [
        (AutoPgd, "loss", "hinge"),
        (AutoPgd, "norm", "l1"),
        (AutoPgd, "eps", "-0.1"),
        (AutoPgd, "restarts", "0"),
        (TargetedAutoPgd, "targets", "0"),
        (TargetedAutoPgd, "steps", "0"),
        (SquareAttack, "queries", "0"),
        (SquareAttack, "norm", "l1"),
    ],
)
def test_parameters_out_of_range_are_rejected(attack, key, text):
    with pytest.raises(ParameterError, match=rf"{key}={text}"):
        attack.from_text({key: text})
