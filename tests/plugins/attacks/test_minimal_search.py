"""FGSM and PGD with ``search=minimal``."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from advbench.api import SampleRandom
from advbench_attacks.fgsm import FastGradientSign
from advbench_attacks.pgd import ProjectedGradientDescent

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


def fooled(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return model(images).argmax(dim=1) != labels


@pytest.fixture
def many(network: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Forty images with the network's predictions, every eighth label a wrong one."""
    images = torch.rand(40, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    labels = network(images).argmax(dim=1)
    labels[::8] = (labels[::8] + 1) % 10
    return images, labels


@pytest.mark.parametrize("max_eps", [0.05, 0.2, 1.0])
def test_fgsm_finds_the_first_success_of_a_sweep_over_a_thousand_fixed_eps(max_eps, network, many, streams):
    images, labels = many
    swept = images.clone()
    left = ~fooled(network, images, labels)
    for size in range(1, 1001):
        tried = FastGradientSign(size * max_eps / 1000).run(network, images, labels, streams(range(40)))
        hit = left & fooled(network, tried, labels)
        swept[hit] = tried[hit]
        left &= ~hit
    found = FastGradientSign(search="minimal", max_eps=max_eps).run(network, images, labels, streams(range(40)))
    in_sweep = ~left if max_eps == 1 else torch.ones_like(left)
    assert left.any() == (max_eps < 1), "at .05 and .2 some samples must be out of reach for this to show anything"
    assert torch.equal(found[in_sweep], swept[in_sweep])


@pytest.mark.parametrize("random_start", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_pgd_never_needs_more_than_the_smallest_of_a_grid_of_fixed_eps(seed, random_start, network, many, streams):
    images, labels = many
    best = torch.where(fooled(network, images, labels), 0.0, torch.inf)
    for size in range(1, 41):
        fixed = ProjectedGradientDescent(size * 0.005, random_start=random_start)
        hit = fooled(network, fixed.run(network, images, labels, streams(range(40), seed)), labels)
        best[hit & best.isinf()] = size * 0.005
    assert best.isfinite().sum() > 30
    found = linf(PGD.run(network, images, labels, streams(range(40))), images)
    assert (found <= best + 1e-6).all()


@pytest.mark.parametrize(("attack", "slack"), [(FGSM, 0.001), (PGD, 0.0005)], ids=["fgsm", "pgd"])
def test_the_eps_of_a_linear_classifier_is_its_distance(attack, slack, inner, streams):
    model = Linear().eval()
    labels = model(inner).argmax(dim=1)
    found = attack.run(model, inner, labels, streams(range(8)))
    assert fooled(model, found, labels).all()
    assert (linf(found, inner) >= model.distance(inner) - 1e-6).all()
    assert (linf(found, inner) <= model.distance(inner) + slack).all()


@pytest.mark.parametrize("attack", [FGSM, PGD], ids=["fgsm", "pgd"])
def test_a_sure_classifier_whose_cross_entropy_has_no_gradient_hides_nothing(attack, inner, streams):
    model = Linear(scale=1e4).eval()
    labels = model(inner).argmax(dim=1)
    sure = torch.nn.functional.cross_entropy(model(inner), labels, reduction="none")
    assert (sure == 0).all(), "its cross-entropy must vanish for this to show anything"
    found = attack.run(model, inner, labels, streams(range(8)))
    assert fooled(model, found, labels).all()
    assert (linf(found, inner) <= model.distance(inner) + 0.001).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_all_are_fooled_those_fooled_already_are_left_and_the_inputs_too(attack, network, many, streams):
    images, labels = many
    kept_images, kept_labels = images.clone(), labels.clone()
    with torch.no_grad():  # the caller may have switched gradients off
        crafted = attack.run(network, images, labels, streams(range(40)))
    already = fooled(network, images, labels)
    assert already.sum() == 5
    assert torch.equal(crafted[already], images[already])
    assert fooled(network, crafted, labels).all()
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    assert (crafted.dtype, crafted.shape, crafted.requires_grad) == (torch.float32, images.shape, False)
    assert torch.equal(images, kept_images)
    assert torch.equal(labels, kept_labels)


@pytest.mark.parametrize("max_eps", [0.02, 0.05])
@pytest.mark.parametrize("attack", [FastGradientSign, ProjectedGradientDescent])
def test_nothing_goes_beyond_max_eps_and_what_is_not_fooled_is_clean(attack, max_eps, network, many, streams):
    images, labels = many
    crafted = attack(search="minimal", max_eps=max_eps).run(network, images, labels, streams(range(40)))
    everything = attack(search="minimal").run(network, images, labels, streams(range(40)))
    assert linf(crafted, images).max() <= max_eps + 1e-6
    stays = ~fooled(network, crafted, labels)
    assert 0 < stays.sum() < 35
    assert torch.equal(crafted[stays], images[stays])
    assert (linf(everything, images)[stays] > max_eps * 0.98).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_samples_result_does_not_depend_on_its_batch(attack, network, many, streams):
    images, labels = many
    whole = attack.run(network, images, labels, streams(range(40)))
    parts = [
        attack.run(network, images[rows], labels[rows], streams(rows.tolist()))
        for rows in torch.arange(40).split([1, 3, 20, 16])
    ]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_pgds_starts_are_the_seeds_and_fgsm_has_none(network, many, streams):
    images, labels = many

    def run(attack, seed):
        return attack.run(network, images, labels, streams(range(40), seed))

    # The boundary that slopes at the clean image tell of, the same for all seeds, is the nearest found on this network.
    likeliest = ProjectedGradientDescent(search="minimal", targets=3)
    assert torch.equal(run(likeliest, 0), run(likeliest, 0))
    assert not torch.equal(run(likeliest, 0), run(likeliest, 1))
    still = ProjectedGradientDescent(search="minimal", random_start=False)
    assert torch.equal(run(still, 0), run(still, 1))
    assert torch.equal(run(FGSM, 0), run(FGSM, 1))


def test_samples_that_are_done_leave_the_batch_and_make_room_for_more_sizes(network, many, streams, recorded):
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
def test_what_fools_the_model_alone_but_not_in_the_whole_batch_is_pushed_until_it_does(attack, inner, streams):
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
    assert fooled(model, found, model_labels).all()
    assert (linf(found, inner) <= model.distance(inner) + 0.01).all()


def test_few_steps_are_no_worse_than_the_same_few_at_a_fixed_eps(network, many, streams):
    images, labels = many
    best = torch.where(fooled(network, images, labels), 0.0, torch.inf)
    for size in range(1, 41):
        fixed = ProjectedGradientDescent(size * 0.005, steps=3)
        hit = fooled(network, fixed.run(network, images, labels, streams(range(40))), labels)
        best[hit & best.isinf()] = size * 0.005
    few = ProjectedGradientDescent(search="minimal", steps=3, search_steps=1)
    assert (linf(few.run(network, images, labels, streams(range(40))), images) <= best + 1e-6).all()


def test_a_step_size_is_the_first_eps_s_and_in_proportion_after(network, many, streams):
    images, labels = many

    def run(**given):
        attack = ProjectedGradientDescent(search="minimal", targets=3, **given)
        return attack.run(network, images, labels, streams(range(40)))

    torch.testing.assert_close(run(step_size=0.3 * 2.5 / 40), run(), atol=1e-5, rtol=0)
    torch.testing.assert_close(run(step_size=0.15 * 2.5 / 40, max_eps=0.5), run(max_eps=0.5), atol=1e-5, rtol=0)
    assert not torch.allclose(run(step_size=0.1), run(), atol=1e-5)
