"""Several defenses as one: how answers are combined, what attacks see, and what cannot be a member."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import pytest
import torch

from advbench.api import Answer, Artefact, ContractError, Defense, ParameterError, SampleRandom
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier, count_approximations
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.specs import Chain
from advbench.testing import assert_conforms
from advbench_defenses.ensemble import Ensemble
from advbench_defenses.feature_squeezing import FeatureSqueezing
from advbench_defenses.jpeg import JpegCompression
from advbench_defenses.none import NoDefense
from advbench_defenses.smoothing import RandomizedSmoothing
from advbench_defenses.tvm import TotalVariationMinimisation


@dataclass(frozen=True)
class Shift(Defense):
    """Adds a number to every pixel."""

    name = "shift"
    by: float = 0.0

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        return images + self.by


@dataclass(frozen=True)
class Rejects(Defense):
    """Rejects images without being a detector."""

    name = "rejects"

    def classify(
        self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom, fitted: Artefact | None = None
    ) -> Answer:
        logits = network(images)
        return Answer(logits, logits[:, 0])


@dataclass(frozen=True)
class Fitted(Rejects):
    """Is fitted."""

    name = "fitted"

    def fit(self, network: object, data: object, rng: object) -> Artefact:
        return {"number": 1.0}


@dataclass(frozen=True)
class Halves(Defense):
    """Returns the upper half."""

    name = "halves"

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        return images[:, :, : images.shape[2] // 2]

    def output_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        return image_shape[0], image_shape[1] // 2, image_shape[2]


class Steps(torch.nn.Module):
    """Three classes by the mean of the image: logits that are easy to combine by hand."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack((0 * mean, 4 * mean - 1, 12 * mean - 7), dim=1)


@functools.cache
def convolution() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = [torch.nn.LazyConv2d(4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(10)]
    network = torch.nn.Sequential(*layers).eval()
    network(torch.zeros(1, 1, 16, 11))
    return network.requires_grad_(False)


def answer(defense: Defense, images: torch.Tensor, network: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return (
            ChainPass(Chain((defense,)), network, 250).answer(images, SampleRandom(0, "d", range(len(images)))).logits
        )


def seen(defense: Defense, images: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits and the gradient that an adaptive attack gets."""
    rng, points = SampleRandom(0, "attacked", range(len(images))), images.clone().requires_grad_()
    logits = DefendedClassifier(convolution(), Chain((defense,)), rng, 1, number=number)(points)
    (gradient,) = torch.autograd.grad(logits.square().sum(), points)
    return logits.detach(), gradient


def test_the_answers_are_combined_by_the_rule() -> None:
    images = torch.full((1, 1, 2, 2), 0.3)
    members = (Shift(0.0), Shift(0.1), Shift(0.6))  # logits (0, 0.2, -3.4), (0, 0.6, -2.2) and (0, 2.6, 3.8)
    logits = torch.tensor([[0, 0.2, -3.4], [0, 0.6, -2.2], [0, 2.6, 3.8]])
    mean = answer(Ensemble(members), images, Steps())
    torch.testing.assert_close(mean, logits.mean(dim=0, keepdim=True), atol=1e-5, rtol=0)
    shares = answer(Ensemble(members, rule="probabilities"), images, Steps())
    torch.testing.assert_close(shares.exp(), logits.softmax(dim=1).mean(dim=0, keepdim=True), atol=1e-5, rtol=0)
    voting = Ensemble(members, rule="votes")
    assert voting.votes == 3
    votes = answer(voting, images, Steps())
    assert votes[0, 1:].tolist() == pytest.approx([math.log(2 / 3), math.log(1 / 3)])
    assert votes[0, 0] < -5


@pytest.mark.parametrize(
    "member",
    [NoDefense(), JpegCompression(50), TotalVariationMinimisation(drop=0)],
    ids=lambda member: member.name,
)
def test_attacks_see_every_approximation_of_a_member_as_without_the_ensemble(
    member: Defense, grey: torch.Tensor
) -> None:
    twice = Ensemble((member, member))
    views = count_approximations(Chain((twice,)))
    assert views == count_approximations(Chain((member,)))
    for number in range(views):
        for one, other in zip(seen(member, grey, number), seen(twice, grey, number), strict=True):
            torch.testing.assert_close(other, one)


def test_a_member_with_fewer_approximations_keeps_its_last_one(grey: torch.Tensor) -> None:
    jpeg, tvm = JpegCompression(50), TotalVariationMinimisation(drop=0)
    ensemble = Ensemble((jpeg, Ensemble((tvm, NoDefense()))))
    assert count_approximations(Chain((ensemble,))) == 2
    first, second = (seen(ensemble, grey, number) for number in range(2))
    torch.testing.assert_close(first[0], second[0])
    assert not torch.allclose(first[1], second[1]), "the approximations of jpeg differ"


def test_a_vote_is_attacked_through_the_probabilities(grey: torch.Tensor) -> None:
    members = (JpegCompression(50), NoDefense())
    vote = seen(Ensemble(members, rule="votes"), grey, 0)
    probabilities = seen(Ensemble(members, rule="probabilities"), grey, 0)
    assert all(torch.equal(one, other) for one, other in zip(vote, probabilities, strict=True))


def test_random_members_draw_independently() -> None:
    images = torch.full((50, 1, 2, 2), 0.5)
    member = RandomizedSmoothing(sigma=0.5, samples=1)
    alone, both = (answer(one, images, Steps()).argmax(dim=1) for one in (member, Ensemble((member,))))
    assert not torch.equal(alone, both), "the streams are those of a place in the ensemble"
    votes = answer(Ensemble((member, member), rule="votes"), images, Steps())
    assert 0 < int((votes.amax(dim=1) < -0.5).sum()) < 50, "two draws agree for some samples alone"


@pytest.mark.parametrize("rule", ["logits", "votes"])
def test_it_keeps_the_contract(rule: str) -> None:
    members = (TotalVariationMinimisation(iterations=2), RandomizedSmoothing(samples=5), JpegCompression(50))
    assert_conforms(Ensemble(members, rule=rule))


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (FeatureSqueezing(), "feature-squeezing rejects images .* as in feature-squeezing\\+ensemble:of=…"),
        (Fitted(), "of: fitted is fitted to data"),
    ],
)
def test_what_cannot_be_a_member(member: Defense, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Ensemble((NoDefense(), member))


def test_a_member_that_rejects_without_saying_so_is_an_error() -> None:
    with pytest.raises(ContractError, match="'rejects' rejects images and cannot be a member"):
        answer(Ensemble((NoDefense(), Rejects())), torch.zeros(1, 1, 2, 2), Steps())


def test_a_member_that_changes_the_shape_needs_a_gradient_of_its_own() -> None:
    images = torch.zeros(1, 1, 16, 11)
    with pytest.raises(ContractError, match=r"'halves' has no gradient as a member .* shape \(1, 1, 8, 11\)"):
        seen(Ensemble((Halves(),)), images, 0)


def test_members_return_images_of_one_shape() -> None:
    assert Ensemble((Halves(), Halves())).output_shape((1, 8, 8)) == (1, 4, 8)
    assert Ensemble((Halves(), NoDefense())).incompatibility((1, 8, 8)) == (
        "ensemble: halves returns images of (1, 4, 8), and none of (1, 8, 8)"
    )


def test_it_needs_what_its_members_and_its_rule_need() -> None:
    assert Ensemble((NoDefense(),)).needs == "scores"
    assert Ensemble((NoDefense(),), rule="votes").needs == "labels"
