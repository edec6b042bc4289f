"""Randomized smoothing on half-spaces, for which the probability of each vote is known."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from scipy.stats import beta, binom

from advbench.api import SampleRandom
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.specs import Chain
from advbench_defenses.binomial import lower_bound
from advbench_defenses.smoothing import RandomizedSmoothing

SHAPE = (1, 3, 3)


class HalfSpace(torch.nn.Module):
    """Class 1 where the first pixel exceeds 1/2: with noise this has the probability Φ(gap / sigma)."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        gap = images[:, 0, 0, 0] - 0.5
        return torch.stack((-gap, gap), dim=1)


def images_with_gaps(*gaps: float) -> torch.Tensor:
    images = torch.full((len(gaps), *SHAPE), 0.3)
    images[:, 0, 0, 0] = 0.5 + torch.tensor(gaps)
    return images


def passed(defense: RandomizedSmoothing, batch_size: int = 250) -> ChainPass:
    return ChainPass(Chain((defense,)), HalfSpace(), batch_size)


def test_the_radius_is_sigma_times_the_quantile_of_the_bound() -> None:
    defense = RandomizedSmoothing(sigma=0.5, n=20_000, n0=100)
    gaps = (0.1, 0.3, 0.6, -0.4)
    certificate = passed(defense).certify(images_with_gaps(*gaps), SampleRandom(0, "certify", range(4)))
    assert certificate.classes.tolist() == [1, 1, 1, 0]
    for gap, radius in zip(gaps, certificate.radii.tolist(), strict=True):
        exact = 0.5 * NormalDist().inv_cdf(NormalDist().cdf(abs(gap) / 0.5))  # sigma Φ⁻¹(p) is the distance itself
        assert exact == pytest.approx(abs(gap))
        assert abs(gap) - 0.05 < radius < abs(gap)


def test_all_votes_for_one_class_give_the_largest_radius() -> None:
    defense = RandomizedSmoothing(sigma=0.25, n=500, alpha=0.01)
    certificate = passed(defense).certify(images_with_gaps(50.0), SampleRandom(0, "certify", [7]))
    assert float(certificate.radii[0]) == pytest.approx(0.25 * NormalDist().inv_cdf(0.01 ** (1 / 500)), rel=1e-9)


def test_it_abstains_on_the_boundary() -> None:
    certificate = passed(RandomizedSmoothing()).certify(images_with_gaps(0.0, 0.0), SampleRandom(1, "c", range(2)))
    assert certificate.classes.tolist() == [-1, -1]
    assert certificate.radii.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("trials", "alpha"), [(1, 0.3), (10, 0.05), (100, 0.001), (57, 0.2)])
def test_the_bound_is_clopper_pearsons(trials: int, alpha: float) -> None:
    for successes in range(1, trials + 1):
        expected = beta.ppf(alpha, successes, trials - successes + 1)
        assert lower_bound(successes, trials, alpha) == pytest.approx(expected, rel=1e-9)
    assert lower_bound(0, trials, alpha) == 0


@pytest.mark.parametrize(("trials", "alpha"), [(20, 0.05), (100, 0.001), (300, 0.01)])
def test_the_bound_covers_with_the_stated_confidence_summed_over_the_binomial(trials: int, alpha: float) -> None:
    bounds = torch.tensor([lower_bound(k, trials, alpha) for k in range(trials + 1)], dtype=torch.float64)
    # The coverage jumps down just above each bound: these probabilities are the worst ones.
    for probability in [*bounds[1:].tolist(), *torch.linspace(0.01, 0.99, 33).tolist()]:
        chances = torch.from_numpy(binom.pmf(range(trials + 1), trials, probability))
        assert float(chances[bounds <= probability].sum()) >= 1 - alpha - 1e-12


def test_a_bound_of_many_trials_is_finite() -> None:
    assert lower_bound(99_000, 100_000, 0.001) == pytest.approx(beta.ppf(0.001, 99_000, 1_001), rel=1e-9)


def test_the_logits_are_log_shares_of_the_votes_that_a_normal_distribution_gives() -> None:
    defense = RandomizedSmoothing(sigma=0.5, samples=5000)
    logits = passed(defense).answer(images_with_gaps(0.2, -0.5), SampleRandom(0, "defense", range(2))).logits
    shares = logits.exp()
    assert float(shares[0, 1]) == pytest.approx(NormalDist().cdf(0.4), abs=0.03)
    assert float(shares[1, 1]) == pytest.approx(NormalDist().cdf(-1.0), abs=0.03)
    assert torch.allclose(shares.sum(dim=1), torch.ones(2), atol=1e-5)


def test_the_votes_of_a_sample_depend_on_neither_its_batch_nor_the_size_of_the_networks_batches() -> None:
    defense, images = RandomizedSmoothing(samples=64), images_with_gaps(0.05, -0.02, 0.01)
    together = passed(defense).answer(images, SampleRandom(0, "defense", [4, 5, 6])).logits
    in_parts = passed(defense, 7).answer(images, SampleRandom(0, "defense", [4, 5, 6])).logits
    alone = passed(defense).answer(images[1:2], SampleRandom(0, "defense", [5])).logits
    assert torch.equal(together, in_parts)
    assert torch.equal(together[1:2], alone)


def test_attacks_see_single_noisy_copies_averaged_over_the_draws() -> None:
    images = images_with_gaps(0.2, -0.1).requires_grad_()
    chain = Chain((RandomizedSmoothing(sigma=0.5),))
    classifier = DefendedClassifier(HalfSpace(), chain, SampleRandom(0, "attacked", range(2)), draws=400)
    logits = classifier(images)
    assert torch.allclose(logits[:, 1].detach(), torch.tensor([0.2, -0.1]), atol=4 * 0.5 / math.sqrt(400))
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), images)
    assert torch.equal(gradient[:, 0, 0, 0], torch.ones(2)) or torch.allclose(gradient[:, 0, 0, 0], torch.ones(2))
