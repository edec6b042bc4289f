from __future__ import annotations

import itertools

import pytest
import torch

from advbench.api import Budget, ParameterError
from advbench.contracts.attacks import check_adversarial
from advbench_attacks.black_box.noise import RandomNoise

KINDS = {"uniform": ("linf", 0.3), "gaussian": ("l2", 1.5), "salt-and-pepper": ("l0", 20.0)}
ATTACKS = [RandomNoise(kind, eps) for kind, (_, eps) in KINDS.items()]


class Untouchable(torch.nn.Module):
    """A classifier that must not be asked."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the model was called")


@pytest.fixture
def colour() -> torch.Tensor:
    """Six images of three channels, from 0 to 1."""
    return torch.rand(6, 3, 5, 5, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def grey() -> torch.Tensor:
    """Images from which every value can change either way by more than any of the noise."""
    return torch.full((6, 3, 30, 30), 0.5)


def noise(attack: RandomNoise, images: torch.Tensor, rng) -> torch.Tensor:
    """What the noise adds; its one draw asks the model nothing."""
    return attack.run(Untouchable(), images, torch.zeros(len(images), dtype=torch.int64), rng) - images


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_within_the_budget_and_inputs_unchanged(kind, share, colour, streams):
    norm, eps = KINDS[kind]
    attack = RandomNoise(kind, eps * share)
    kept = colour.clone()
    crafted = attack.run(Untouchable(), colour, torch.zeros(6, dtype=torch.int64), streams(range(6)))
    assert attack.budget() == Budget(norm, eps * share)
    assert check_adversarial(attack, colour, crafted).min() >= 0
    assert crafted.max() <= 1
    assert torch.equal(colour, kept)
    assert torch.equal(crafted, colour) == (share == 0)


def test_uniform_noise_is_uniform_between_minus_eps_and_eps(grey, streams):
    change = noise(RandomNoise("uniform", 0.3), grey, streams(range(6)))
    edges = torch.histc(change, bins=6, min=-0.3, max=0.3) / change.numel()
    torch.testing.assert_close(edges, torch.full((6,), 1 / 6), atol=0.01, rtol=0)


def test_gaussian_noise_has_l2_norm_eps_and_a_uniform_direction(grey, streams):
    change = noise(RandomNoise("gaussian", 1.5), grey, streams(range(6))).flatten(1)
    torch.testing.assert_close(change.norm(dim=1), torch.full((6,), 1.5))
    scaled = change * change.shape[1] ** 0.5 / 1.5
    assert scaled.mean().abs() < 0.03
    assert abs(float(scaled.pow(4).mean()) - 3) < 0.2  # the fourth moment of Gaussian numbers; of uniform ones 1.8
    cosines = torch.nn.functional.cosine_similarity(change[:3], change[3:])
    assert cosines.abs().max() < 0.1


def test_salt_and_pepper_sets_exactly_eps_values_to_black_or_white(grey, streams):
    attack = RandomNoise("salt-and-pepper", 500)
    change = noise(attack, grey, streams(range(6)))
    assert (change != 0).flatten(1).sum(dim=1).tolist() == [500] * 6
    assert set(change.unique().tolist()) == {-0.5, 0.0, 0.5}
    assert abs(float((change > 0).sum() / (change != 0).sum()) - 0.5) < 0.05
    assert ((change != 0).sum(dim=1) == 1).any(), "channels must be drawn one by one"
    every = noise(RandomNoise("salt-and-pepper", 10_000), grey, streams(range(6)))
    assert (every != 0).all()


@pytest.mark.parametrize("queries", [1, 5])
@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_a_samples_result_does_not_depend_on_its_batch(attack, queries, network, images, labels, streams):
    attack = RandomNoise(attack.kind, attack.eps, queries)
    whole = attack.run(network, images, labels, streams(range(6)))
    parts = [attack.run(network, images[i], labels[i], streams(i.tolist())) for i in torch.arange(6).split([1, 3, 2])]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_noise_depends_on_seed_and_sample(attack, streams):
    same = torch.full((2, 1, 6, 6), 0.5)
    one, again, other = (noise(attack, same, streams(range(2), seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one[0], one[1])
    assert (one != other).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_the_first_adversarial_draw_is_kept_or_the_last(attack, network, images, labels, streams, recorded):
    rng = streams(range(6))
    draws = [images + noise(attack, images, rng) for _ in range(4)]
    fools = torch.stack([network(draw).argmax(dim=1) != labels for draw in draws])
    first = torch.where(fools.any(dim=0), fools.int().argmax(dim=0), 3)
    assert len(first.unique()) > 1, "the samples must differ for this to show anything"
    recorder = recorded(network)
    crafted = RandomNoise(attack.kind, attack.eps, queries=4).run(recorder, images, labels, streams(range(6)))
    torch.testing.assert_close(crafted, torch.stack([draws[k][i] for i, k in enumerate(first.tolist())]))
    # A sample is asked about until it is fooled, and not after the last draw.
    assert recorder.batches == [int((first >= k).sum()) for k in range(3)]


def test_the_model_receives_the_rows_of_its_samples(network, images, labels, streams):
    queried_rows: list[list[int]] = []

    class Aware(torch.nn.Module):
        def for_rows(self, rows: torch.Tensor) -> torch.nn.Module:
            queried_rows.append(rows.tolist())
            return network

    RandomNoise("uniform", 0.3, queries=10).run(Aware().eval(), images, labels, streams(range(6)))
    assert queried_rows[0] == list(range(6))
    assert all(set(later) <= set(earlier) for earlier, later in itertools.pairwise(queried_rows))
    assert len(queried_rows[-1]) < 6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "blue"}, "kind=blue: must be one of uniform, gaussian, salt-and-pepper"),
        ({"eps": "-0.1"}, "eps=-0.1: must be a number of at least 0"),
        ({"queries": "0"}, "queries=0: must be a whole number of at least 1"),
        ({"kind": "salt-and-pepper"}, "eps=0.3: with kind=salt-and-pepper it counts values; give a whole number"),
    ],
)
def test_parameters_out_of_range_are_rejected(given, message):
    with pytest.raises(ParameterError, match=message):
        RandomNoise.from_text(given)
