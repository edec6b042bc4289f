"""Defenses that classify: chains around the network, fresh draws inside, and what attacks see of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from advbench.api import (
    Answer,
    ContractError,
    Defense,
    SampleRandom,
    features,
    for_rows,
    log_shares,
    param,
)
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier
from advbench.evaluation.work.attacked.eot_graphs import EOTGraphs
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.specs import Chain


@dataclass(frozen=True)
class Twice(Defense):
    """Doubles the logits of what is inside, and adds its own offset."""

    name = "twice"
    offset: float = param(1.0, help="added to each logit")

    def classify(self, network, images, rng, fitted=None):
        return 2 * network(images) + self.offset


@dataclass(frozen=True)
class Halve(Defense):
    """Halves every pixel; its approximation has three times the slope."""

    name = "halve"

    def apply(self, images, rng):
        return images / 2

    def approximation(self, images, rng):
        return 3 * images


@dataclass(frozen=True)
class Jitter(Defense):
    """Adds a random number to every pixel."""

    name = "jitter"
    stochastic = True
    differentiable = True

    def apply(self, images, rng):
        return images + rng.uniform(1, 1, 1)


@dataclass(frozen=True)
class Both(Defense):
    """The mean of two calls of the network, with two images of each sample."""

    name = "both"
    how: str = param("rows", choices=("rows", "calls", "no rows", "wrong rows"), help="how it calls the network")

    def classify(self, network, images, rng, fitted=None):
        if self.how == "calls":
            return (network(images) + network(images)) / 2
        both, rows = torch.cat((images, images)), torch.arange(len(images)).repeat(2)
        if self.how == "no rows":
            logits = network(both)
        else:
            logits = for_rows(network, rows[:-1] if self.how == "wrong rows" else rows)(both)
        return logits.reshape(2, len(images), -1).mean(dim=0)


@dataclass(frozen=True)
class Crop(Defense):
    """Drops the last column; 'own' has a gradient."""

    name = "crop"
    own: bool = param(True, help="whether autograd follows it")

    @property
    def differentiable(self):
        return self.own

    def apply(self, images, rng):
        return images[..., :-1]

    def output_shape(self, image_shape):
        return (image_shape[0], image_shape[1], image_shape[2] - 1)


@dataclass(frozen=True)
class Broken(Defense):
    """Breaks the contract of answers in the given way."""

    name = "broken"
    how: str = param("nan", choices=("nan", "kind", "shape", "detached", "in-place", "votes", "score"), help="how")

    @property
    def votes(self):
        return 10 if self.how == "votes" else None

    def classify(self, network, images, rng, fitted=None):
        logits = network(images)
        return {
            "nan": lambda: logits * float("nan"),
            "kind": lambda: None,
            "shape": lambda: logits[:-1],
            "detached": logits.detach,
            "in-place": lambda: logits + images.detach().mul_(0.5).sum(),
            "votes": lambda: log_shares(torch.tensor([[4, 7]])).expand(len(images), 2),
            "score": lambda: Answer(logits, logits),
        }[self.how]()


class Linear(torch.nn.Module):
    """Logits that are sums of the pixels, with known weights; any number of columns."""

    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, -1.0, 1.0, 0.5]])

    def forward(self, images):
        flat = images.flatten(1)
        return flat @ self.weights[:, : flat.shape[1]].T


IMAGES = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(1))


def streams(purpose: str = "test", ids: tuple[int, ...] = (4, 5, 6)) -> SampleRandom:
    return SampleRandom(0, purpose, ids)


def answer(*parts: Defense, images: torch.Tensor = IMAGES, ids: tuple[int, ...] = (4, 5, 6), batch_size: int = 250):
    return ChainPass(Chain(parts), Linear(), batch_size).answer(images, streams(ids=ids)).logits


def attacked(*parts: Defense, draws: int = 1, labels=None) -> DefendedClassifier:
    return DefendedClassifier(Linear().eval(), Chain(parts), streams(), draws, labels=labels)


def gradient(classifier: torch.nn.Module) -> torch.Tensor:
    """Of the first logit."""
    points = IMAGES.clone().requires_grad_()
    return torch.autograd.grad(classifier(points)[:, 0].sum(), points)[0]


def test_the_first_part_is_around_the_next_ones():
    inner = Linear()(IMAGES)
    assert torch.equal(answer(Twice(1.0), Twice(5.0)), 2 * (2 * inner + 5) + 1)
    assert torch.equal(answer(Halve(), Twice()), 2 * Linear()(IMAGES / 2) + 1)
    assert torch.equal(answer(Twice(), Halve()), 2 * Linear()(IMAGES / 2) + 1)


def test_every_call_draws_what_is_inside_afresh_and_each_image_has_draws_of_its_sample():
    by_calls, by_rows = answer(Both("calls"), Jitter()), answer(Both("rows"), Jitter())
    assert torch.equal(by_calls, by_rows)
    assert not torch.allclose(by_calls, answer(Jitter()))
    assert torch.allclose(answer(Both("rows"), Jitter(), images=IMAGES[1:2], ids=(5,)), by_rows[1:2])
    assert torch.allclose(answer(Both("rows"), Jitter(), batch_size=1), by_rows)
    assert torch.equal(answer(Both("rows"), Jitter()), by_rows)


def test_images_of_unknown_samples_are_an_error_only_if_something_random_is_inside():
    assert torch.allclose(answer(Both("no rows"), Halve()), Linear()(IMAGES / 2))
    with pytest.raises(ContractError, match=r"another number of images than the 3 samples.*for_rows\(network, rows\)"):
        answer(Both("no rows"), Jitter())
    with pytest.raises(ContractError, match="with 5 rows for 6 images"):
        answer(Both("wrong rows"), Halve())


def test_attacks_follow_a_part_that_classifies_and_approximate_those_that_transform():
    weights = Linear.weights[0].view(1, 1, 2, 2)
    assert torch.equal(gradient(attacked(Twice())), (2 * weights).expand(3, 1, 2, 2))
    assert torch.equal(gradient(attacked(Twice(), Halve())), (6 * weights).expand(3, 1, 2, 2))
    assert torch.equal(gradient(attacked(Halve(), Twice())), (6 * weights).expand(3, 1, 2, 2))
    assert torch.equal(attacked(Twice(), Halve())(IMAGES), answer(Twice(), Halve()))


def test_draws_are_averaged_also_where_graphs_are_computed_again():
    classifier = attacked(Twice(), Jitter(), draws=8)
    singles = attacked(Twice(), Jitter())
    expected = torch.stack([singles(IMAGES) for _ in range(8)]).mean(dim=0)
    assert torch.allclose(classifier(IMAGES), expected)
    small = DefendedClassifier(Linear(), Chain((Twice(), Jitter())), streams(), 8, graphs=EOTGraphs(Linear(), limit=0))
    assert torch.allclose(gradient(small), (2 * Linear.weights[0].view(1, 1, 2, 2)).expand(3, 1, 2, 2))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", r"NaN or infinite logits from classify\(\) for 3 of 3 images"),
        ("kind", r"returned NoneType from classify\(\); expected logits"),
        ("shape", r"logits of shape \(2, 2\) from classify\(\); expected \(3, classes\)"),
        ("in-place", "changed its input images in place"),
        ("votes", "not log shares of 10 votes"),
        ("score", "a score from classify"),
    ],
)
def test_a_broken_answer_is_blamed_on_the_defense(how: str, message: str):
    with pytest.raises(ContractError, match=f"defense 'broken'.*{message}"):
        answer(Broken(how))


def test_attacked_logits_need_a_gradient():
    with pytest.raises(ContractError, match=r"defense 'broken' returned logits without a gradient from attacked\(\)"):
        gradient(attacked(Broken("detached")))
    assert torch.equal(attacked(Broken("detached"))(IMAGES), Linear()(IMAGES))


def test_a_part_that_changes_the_shape_needs_a_gradient_of_its_own():
    cropped = IMAGES[..., :-1]
    assert torch.equal(answer(Crop()), Linear()(cropped))
    assert torch.equal(gradient(attacked(Crop())) != 0, torch.tensor([[True, False]] * 2).expand(3, 1, 2, 2))
    assert torch.equal(answer(Twice(), Crop(own=False)), 2 * Linear()(cropped) + 1)
    with pytest.raises(ContractError, match="'crop' changes the shape of images, so the identity cannot approximate"):
        gradient(attacked(Crop(own=False)))


def test_scores_enter_the_logits_that_attacks_see():
    @dataclass(frozen=True)
    class Rejecting(Defense):
        name = "rejecting"

        def classify(self, network, images, rng, fitted=None):
            return Answer(network(images), torch.tensor([0.5, -0.5, -100.0])[: len(images)])

    labels = torch.tensor([1, 1, 1])
    logits, plain = attacked(Rejecting(), labels=labels)(IMAGES), Linear()(IMAGES)
    assert torch.equal(logits[:, 0], plain[:, 0])
    best = plain.amax(dim=1)
    assert logits[0, 1] == best[0] + 0.5 and logits[1, 1] == best[1] - 0.5 and logits[2, 1] == plain[2, 1]
    # Wrong exactly where accepted and wrong; all three are wrong without the score.
    assert (logits.argmax(dim=1) != labels).tolist() == [False, True, True]
    with pytest.raises(ContractError, match="must name their samples"):
        attacked(Rejecting(), labels=labels)(IMAGES[:2])


def test_features_are_what_enters_the_last_linear_layer():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 7), torch.nn.ReLU(), torch.nn.Linear(7, 2))
    expected = network[:3](IMAGES)
    assert torch.equal(features(network, IMAGES), expected)
    inside = ChainPass(Chain((Twice(), Halve())), network, 2).inside(0, streams())
    with torch.no_grad():  # in parts of two images
        assert torch.allclose(features(inside, IMAGES), network[:3](IMAGES / 2))
    assert not any(layer._forward_pre_hooks for layer in network)
    with pytest.raises(ContractError, match=r"calls no torch\.nn\.Linear"):
        features(Linear(), IMAGES)


def test_attacks_without_gradients_get_the_vote_that_everybody_gets() -> None:
    images, labels = torch.rand(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)).eval()

    @dataclass(frozen=True)
    class Vote(Defense):
        """Answers class 1 to everybody, and class 0 to attacks that follow gradients."""

        name = "vote"
        stochastic = True
        votes = 3

        def classify(self, network, images, rng, fitted=None):
            rng.uniform()
            return log_shares(torch.tensor([[0, 3]]).repeat(len(images), 1))

        def attacked(self, network, images, rng, fitted=None):
            return network(images) * 0 + torch.tensor([1.0, 0.0])

    def answers(*, without_gradients: bool) -> list[int]:
        streams = SampleRandom(0, "test", range(3))
        classifier = DefendedClassifier(
            network, Chain((Vote(),)), streams, 5, labels=labels, without_gradients=without_gradients
        )
        assert classifier.draws == (1 if without_gradients else 5)
        with torch.no_grad():
            return classifier(images).argmax(dim=1).tolist()

    assert answers(without_gradients=True) == [1, 1, 1]
    assert answers(without_gradients=False) == [0, 0, 0]
