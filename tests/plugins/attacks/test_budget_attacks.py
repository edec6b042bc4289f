from __future__ import annotations

import pytest
import torch
from tests.plugins.attacks.classifiers import Undefined

from advbench.api import Budget, ParameterError
from advbench_attacks.gradient.fgsm import FastGradientSign
from advbench_attacks.gradient.pgd import ProjectedGradientDescent

ENGINES = ("native", "foolbox")
ATTACKS = [
    *(FastGradientSign(engine=engine) for engine in ENGINES),
    *(ProjectedGradientDescent(engine=engine) for engine in ENGINES),
    ProjectedGradientDescent(random_start=False),
]
EARLY = ProjectedGradientDescent(0.1, early_stop=True)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("eps", [0.0, 8 / 255, 0.3, 1.0])
def test_fgsm_equals_foolbox_to_the_bit(eps, engine, network, images, labels, streams, foolbox, by_hand):
    ours = FastGradientSign(eps, engine=engine).run(network, images, labels, streams(range(6)))
    theirs = by_hand(foolbox.attacks.LinfFastGradientAttack(random_start=False), network, images, labels, eps)
    assert torch.equal(ours, theirs)


class Approximate(torch.nn.Module):
    """The same network, which declares that its gradient is an approximation."""

    approximate_gradients = True

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.training = False
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("steps", "share"), [(40, 1 / 8), (10, 1 / 4)])
def test_pgds_steps_are_longer_along_approximate_gradients(engine, steps, share, network, images, labels, streams):
    def run(model, step_size=None):
        attack = ProjectedGradientDescent(0.2, steps=steps, step_size=step_size, engine=engine)
        return attack.run(model, images, labels, streams(range(6)))

    approximate = Approximate(network)
    assert torch.equal(run(approximate), run(network, 0.2 * share))
    assert torch.equal(run(network), run(network, 0.2 * 2.5 / steps))
    assert torch.equal(run(approximate, 0.003), run(network, 0.003))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("eps", [8 / 255, 0.3])
def test_pgd_with_madrys_step_and_without_random_start_equals_foolbox_with_its_defaults_to_the_bit(
    eps, engine, network, images, labels, streams, foolbox, by_hand
):
    attack = ProjectedGradientDescent(eps, step_size=eps * 0.01 / 0.3, random_start=False, engine=engine)
    ours = attack.run(network, images, labels, streams(range(6)))
    theirs = by_hand(foolbox.attacks.LinfPGD(random_start=False), network, images, labels, eps)
    assert attack.steps == 40
    assert torch.equal(ours, theirs)


def test_both_engines_of_pgd_agree_from_the_same_random_start(network, many, streams):
    images, labels = many
    native, foolbox = (
        ProjectedGradientDescent(0.2, engine=engine).run(network, images, labels, streams(range(100)))
        for engine in ENGINES
    )
    assert torch.equal(native, foolbox)


def test_early_stop_breaks_the_same_samples_with_fewer_forward_passes(network, many, streams, recorded):
    images, labels = many
    everything = ProjectedGradientDescent(0.1).run(network, images, labels, streams(range(100)))
    recorder = recorded(network)
    early = EARLY.run(recorder, images, labels, streams(range(100)))
    misclassified, misclassified_early = (network(x).argmax(dim=1) != labels for x in (everything, early))
    assert 5 < misclassified.sum() < 95
    assert (misclassified & ~misclassified_early).sum() == 0
    torch.testing.assert_close(early[~misclassified_early], everything[~misclassified_early], atol=1e-6, rtol=0)
    assert sum(recorder.batches) < 40 * 100 * (1 - misclassified_early.float().mean() / 2)
    assert (early - images).abs().max() <= 0.1 + 1e-6


def test_early_stop_returns_a_samples_first_adversarial_point(network, many, streams):
    images, labels = many
    early = EARLY.run(network, images, labels, streams(range(100)))
    misclassified = network(early).argmax(dim=1) != labels
    trajectory = [
        ProjectedGradientDescent(0.1, steps=steps, step_size=0.1 * 2.5 / 40).run(
            network, images, labels, streams(range(100))
        )
        for steps in range(1, 41)
    ]
    for row in misclassified.nonzero().flatten().tolist():
        hits = (points[row] for points in trajectory if network(points)[row].argmax() != labels[row])
        start = (images + streams(range(100)).uniform(1, 6, 6, low=-0.1, high=0.1)).clamp(0, 1)
        if network(start)[row].argmax() == labels[row]:
            torch.testing.assert_close(early[row], next(hits), atol=1e-6, rtol=0)


def test_broken_samples_leave_the_batch(network, many, streams, recorded):
    images, labels = many
    recorder = recorded(network)
    ProjectedGradientDescent(1.0, early_stop=True).run(recorder, images, labels, streams(range(100)))
    assert recorder.batches[0] == 100
    assert recorder.batches == sorted(recorder.batches, reverse=True)
    assert len(recorder.batches) < 40, "no sample was left"


def test_pgd_with_a_step_size_equals_foolbox_to_the_bit(network, images, labels, streams, foolbox, by_hand):
    ours = ProjectedGradientDescent(0.2, steps=7, step_size=0.05, random_start=False).run(
        network, images, labels, streams(range(6))
    )
    theirs = by_hand(
        foolbox.attacks.LinfPGD(abs_stepsize=0.05, steps=7, random_start=False), network, images, labels, 0.2
    )
    assert torch.equal(ours, theirs)


def test_a_short_pgd_still_reaches_the_edge_of_the_ball(network, labels, streams):
    grey = torch.full((6, 1, 6, 6), 0.5)
    short = ProjectedGradientDescent(0.1, steps=3, random_start=False).run(network, grey, labels, streams(range(6)))
    torch.testing.assert_close((short - grey).abs().amax(dim=(1, 2, 3)), torch.full((6,), 0.1))


def test_the_random_start_is_uniform_in_the_ball_and_comes_from_the_samples_streams(network, images, labels, streams):
    barely = ProjectedGradientDescent(0.3, steps=1, step_size=1e-9)
    start = barely.run(network, images, labels, streams(range(6)))
    drawn = streams(range(6)).uniform(1, 6, 6, low=-0.3, high=0.3)
    torch.testing.assert_close(start, (images + drawn).clamp(0, 1), atol=1e-6, rtol=0)
    assert drawn.min() < -0.28
    assert drawn.max() > 0.28


@pytest.mark.parametrize("early_stop", [False, True])
def test_pgds_start_does_not_depend_on_the_batch(early_stop, network, images, labels, streams):
    attack = ProjectedGradientDescent(0.05, steps=5, early_stop=early_stop)
    whole = attack.run(network, images, labels, streams(range(6)))
    parts = [attack.run(network, images[i], labels[i], streams(i.tolist())) for i in torch.arange(6).split([1, 3, 2])]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=0)


def test_pgds_start_depends_on_the_seed(network, images, labels, streams):
    attack = ProjectedGradientDescent(0.3, steps=5)
    one, other = (attack.run(network, images, labels, streams(range(6), seed)) for seed in (0, 1))
    assert (one != other).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_images_are_within_the_budget_and_inputs_unchanged(attack, network, images, labels, streams):
    kept_images, kept_labels = images.clone(), labels.clone()
    crafted = attack.run(network, images, labels, streams(range(6)))
    assert attack.budget() == Budget("linf", 0.3)
    assert (crafted - images).abs().max() <= 0.3 + 1e-6
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    assert (crafted.dtype, crafted.shape, crafted.requires_grad) == (torch.float32, images.shape, False)
    assert torch.equal(images, kept_images)
    assert torch.equal(labels, kept_labels)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_the_attack_raises_the_loss(attack, network, images, labels, streams):
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    crafted = attack.run(network, images, labels, streams(range(6)))
    assert (loss(network(crafted), labels) > loss(network(images), labels)).all()


@pytest.mark.parametrize("attack", [*ATTACKS, EARLY], ids=str)
def test_nan_gradients_give_valid_images(attack, images, streams):
    crafted = attack.run(Undefined().eval(), images, torch.full((6,), 4), streams(range(6)))
    assert crafted.isfinite().all()
    assert (crafted - images).abs().max() <= 0.3 + 1e-6


def test_attacks_work_under_no_grad(network, images, labels, streams):
    attack = FastGradientSign()
    usual = attack.run(network, images, labels, streams(range(6)))
    with torch.no_grad():
        assert torch.equal(attack.run(network, images, labels, streams(range(6))), usual)


@pytest.mark.parametrize(("key", "text"), [("eps", "-0.1"), ("steps", "0"), ("step_size", "0"), ("steps", "2.5")])
def test_parameters_out_of_range_are_rejected(key, text):
    with pytest.raises(ParameterError, match=rf"{key}={text}"):
        ProjectedGradientDescent.from_text({key: text})
