"""FGSM and PGD with ``search=minimal``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from advbench.api import SampleRandom
from advbench_attacks.gradient.fgsm import FastGradientSign
from advbench_attacks.gradient.pgd import ProjectedGradientDescent

pytestmark = pytest.mark.slow

Streams = Callable[..., SampleRandom]

FGSM = FastGradientSign(search="minimal")
PGD = ProjectedGradientDescent(search="minimal")
ATTACKS = [FGSM, PGD, ProjectedGradientDescent(search="minimal", random_start=False, steps=10, search_steps=2)]


class Linear(torch.nn.Module):
    """Two classes on the two sides of a plane whose weights are of very different sizes."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.weight = scale * torch.randn(12, generator=generator) * torch.linspace(0.05, 2.0, 12)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        side = (images.flatten(1) - 0.5) @ self.weight
        return torch.stack([side, -side], dim=1)

    def distance(self, images: torch.Tensor) -> torch.Tensor:
        """|f(x)|/‖w‖₁, the L∞ distance to the plane."""
        return ((images.flatten(1) - 0.5) @ self.weight).abs() / self.weight.abs().sum()


@pytest.fixture
def inner() -> torch.Tensor:
    """Images so far inside [0, 1] that the bounds keep no attack from the plane."""
    return 0.5 + (torch.rand(8, 1, 3, 4, generator=torch.Generator().manual_seed(4)) - 0.5) * 0.4


def linf(crafted: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    return (crafted - images).abs().flatten(1).amax(dim=1)


def misclassified(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return model(images).argmax(dim=1) != labels


@pytest.fixture
def many(network: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Forty images with the network's predictions, every eighth label a wrong one."""
    images = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    labels = network(images).argmax(dim=1)
    labels[::8] = (labels[::8] + 1) % 10
    return images, labels


@pytest.mark.parametrize("max_eps", [0.05, 0.2, 1.0])
def test_minimal_fgsm_equals_a_sweep_over_1000_eps(max_eps, network, many, streams):
    images, labels = many
    swept = images.clone()
    left = ~misclassified(network, images, labels)
    for size in range(1, 1001):
        candidates = FastGradientSign(size * max_eps / 1000).run(network, images, labels, streams(range(40)))
        is_adv = left & misclassified(network, candidates, labels)
        swept[is_adv] = candidates[is_adv]
        left &= ~is_adv
    found = FastGradientSign(search="minimal", max_eps=max_eps).run(network, images, labels, streams(range(40)))
    in_sweep = ~left if max_eps == 1 else torch.ones_like(left)
    assert left.any() == (max_eps < 1), "at .05 and .2 some samples must be out of reach for this to show anything"
    assert torch.equal(found[in_sweep], swept[in_sweep])


@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_minimal_pgd_is_no_worse_than_a_grid_of_eps(seed, random_start, network, many, streams):
    images, labels = many
    best = torch.where(misclassified(network, images, labels), 0.0, torch.inf)
    for size in range(1, 41):
        fixed = ProjectedGradientDescent(size * 0.005, random_start=random_start)
        is_adv = misclassified(network, fixed.run(network, images, labels, streams(range(40), seed)), labels)
        best[is_adv & best.isinf()] = size * 0.005
    assert best.isfinite().sum() > 30
    found = linf(PGD.run(network, images, labels, streams(range(40))), images)
    assert (found <= best + 1e-6).all()


@pytest.mark.parametrize(("attack", "slack"), [(FGSM, 0.001), (PGD, 0.0005)], ids=["fgsm", "pgd"])
def test_the_eps_of_a_linear_classifier_is_its_distance(attack, slack, inner, streams):
    model = Linear().eval()
    labels = model(inner).argmax(dim=1)
    found = attack.run(model, inner, labels, streams(range(8)))
    assert misclassified(model, found, labels).all()
    assert (linf(found, inner) >= model.distance(inner) - 1e-6).all()
    assert (linf(found, inner) <= model.distance(inner) + slack).all()


@pytest.mark.parametrize("attack", [FGSM, PGD], ids=["fgsm", "pgd"])
def test_a_confident_classifier_with_vanishing_cross_entropy_is_broken(attack, inner, streams):
    model = Linear(scale=1e4).eval()
    labels = model(inner).argmax(dim=1)
    sure = torch.nn.functional.cross_entropy(model(inner), labels, reduction="none")
    assert (sure == 0).all(), "its cross-entropy must vanish for this to show anything"
    found = attack.run(model, inner, labels, streams(range(8)))
    assert misclassified(model, found, labels).all()
    assert (linf(found, inner) <= model.distance(inner) + 0.001).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_all_samples_are_misclassified_and_inputs_unchanged(attack, network, many, streams):
    images, labels = many
    kept_images, kept_labels = images.clone(), labels.clone()
    with torch.no_grad():  # the caller may have switched gradients off
        crafted = attack.run(network, images, labels, streams(range(40)))
    already = misclassified(network, images, labels)
    assert already.sum() == 5
    assert torch.equal(crafted[already], images[already])
    assert misclassified(network, crafted, labels).all()
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    assert (crafted.dtype, crafted.shape, crafted.requires_grad) == (torch.float32, images.shape, False)
    assert torch.equal(images, kept_images)
    assert torch.equal(labels, kept_labels)


@pytest.mark.parametrize("max_eps", [0.02, 0.05])
@pytest.mark.parametrize("attack", [FastGradientSign, ProjectedGradientDescent])
def test_images_are_within_max_eps_and_clean_without_success(attack, max_eps, network, many, streams):
    images, labels = many
    crafted = attack(search="minimal", max_eps=max_eps).run(network, images, labels, streams(range(40)))
    everything = attack(search="minimal").run(network, images, labels, streams(range(40)))
    assert linf(crafted, images).max() <= max_eps + 1e-6
    remaining = ~misclassified(network, crafted, labels)
    assert 0 < remaining.sum() < 35
    assert torch.equal(crafted[remaining], images[remaining])
    assert (linf(everything, images)[remaining] > max_eps * 0.98).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_samples_result_does_not_depend_on_its_batch(attack, network, many, streams):
    images, labels = many
    whole = attack.run(network, images, labels, streams(range(40)))
    parts = [
        attack.run(network, images[rows], labels[rows], streams(rows.tolist()))
        for rows in torch.arange(40).split([1, 3, 20, 16])
    ]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_pgds_starts_depend_on_the_seed_and_fgsm_has_none(network, many, streams):
    images, labels = many

    def run(attack, seed):
        return attack.run(network, images, labels, streams(range(40), seed))

    # The boundary that slopes at the clean image tell of, the same for all seeds, is the nearest found on this network.
    with_targets = ProjectedGradientDescent(search="minimal", targets=3)
    assert torch.equal(run(with_targets, 0), run(with_targets, 0))
    assert not torch.equal(run(with_targets, 0), run(with_targets, 1))
    still = ProjectedGradientDescent(search="minimal", random_start=False)
    assert torch.equal(run(still, 0), run(still, 1))
    assert torch.equal(run(FGSM, 0), run(FGSM, 1))


def test_solved_samples_leave_the_batch_and_others_try_more_sizes(network, many, streams, recorded):
    images, labels = many
    recorder = recorded(network)
    FGSM.run(recorder, images, labels, streams(range(40)))
    assert max(recorder.batches) <= 40
    assert 35 in recorder.batches, "the samples that are fooled already"
    # One size at a time, the last sample alone would take as many calls as its eps has thousandths.
    assert (
        len(recorder.batches) < 0.5 * 1000 * linf(FGSM.run(network, images, labels, streams(range(40))), images).max()
    )
    recorder = recorded(network)
    PGD.run(recorder, images, labels, streams(range(40)))
    assert 0 < min(recorder.batches) < 35
    assert max(recorder.batches) <= 40
    assert sum(recorder.batches) / 40 <= 1.2 * PGD.passes()


@pytest.mark.parametrize("attack", [FGSM, PGD], ids=["fgsm", "pgd"])
def test_points_misclassified_alone_but_not_in_the_batch_are_pushed(attack, inner, streams):
    class Moody(Linear):
        """Rounds differently in a batch of eight."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            shift = torch.tensor([0.005, 0.0]) if len(images) == 8 else torch.zeros(2)
            return super().forward(images) + shift

    model = Moody().eval()
    labels = torch.zeros(8, dtype=torch.int64)
    ours = model(inner).argmax(dim=1) == 0
    model_labels = torch.where(ours, labels, 1)
    found = attack.run(model, inner, model_labels, streams(range(8)))
    assert 0 < ours.sum() < 8
    assert misclassified(model, found, model_labels).all()
    assert (linf(found, inner) <= model.distance(inner) + 0.01).all()


def test_with_few_steps_the_search_is_no_worse_than_fixed_eps(network, many, streams):
    images, labels = many
    best = torch.where(misclassified(network, images, labels), 0.0, torch.inf)
    for size in range(1, 41):
        fixed = ProjectedGradientDescent(size * 0.005, steps=3)
        is_adv = misclassified(network, fixed.run(network, images, labels, streams(range(40))), labels)
        best[is_adv & best.isinf()] = size * 0.005
    few = ProjectedGradientDescent(search="minimal", steps=3, search_steps=1)
    assert (linf(few.run(network, images, labels, streams(range(40))), images) <= best + 1e-6).all()


def test_the_step_size_is_for_the_first_eps_and_scales_with_eps(network, many, streams):
    images, labels = many

    def run(**given):
        attack = ProjectedGradientDescent(search="minimal", targets=3, **given)
        return attack.run(network, images, labels, streams(range(40)))

    torch.testing.assert_close(run(step_size=0.3 * 2.5 / 40), run(), atol=1e-5, rtol=0)
    torch.testing.assert_close(run(step_size=0.15 * 2.5 / 40, max_eps=0.5), run(max_eps=0.5), atol=1e-5, rtol=0)
    assert not torch.allclose(run(step_size=0.1), run(), atol=1e-5)
