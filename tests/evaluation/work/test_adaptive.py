"""The classifier of the adaptive threat: true defense forward, a gradient of its own or a stand-in's, fresh draws."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from advbench.api import ContractError, Defense, Goal, LpBall, SampleRandom, for_rows, has_approximate_gradients, param
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier
from advbench.evaluation.work.attacked.batch import SplitCalls
from advbench.evaluation.work.attacked.gradients_at_bounds import InsetGradients
from advbench.evaluation.work.attacked.query_log import QueryLog, RecordingClassifier
from advbench.specs import Chain


@dataclass(frozen=True)
class Steps(Defense):
    """Rounds to quarters; the stand-in doubles the gradient."""

    name = "steps"

    def apply(self, images, rng):
        assert not images.requires_grad
        return (images * 4).round() / 4

    def approximation(self, images, rng):
        return 2 * images


@dataclass(frozen=True)
class Rounding(Defense):
    """Rounds, and knows no stand-in."""

    name = "rounding"

    def apply(self, images, rng):
        return images.round()


@dataclass(frozen=True)
class Square(Defense):
    """Squares, which autograd can follow."""

    name = "square"
    differentiable = True

    def apply(self, images, rng):
        return images**2


@dataclass(frozen=True)
class Jitter(Defense):
    """Adds random numbers; its stand-in tells by its factor which ones."""

    name = "jitter"
    stochastic = True

    def apply(self, images, rng):
        return images + rng.uniform(*images.shape[1:])

    def approximation(self, images, rng):
        return images * rng.uniform(*images.shape[1:])


@dataclass(frozen=True)
class Broken(Defense):
    """Breaks the contract of stand-ins in the given way."""

    name = "broken"
    how: str = param("shape", choices=("shape", "nan", "detached", "in-place", "kind", "false"), help="which part")

    @property
    def differentiable(self):
        return self.how == "false"

    def apply(self, images, rng):
        return images.detach().clone()

    def approximation(self, images, rng):
        return {
            "shape": lambda: images[:, :, :1],
            "nan": lambda: images * float("nan"),
            "detached": images.detach,
            "in-place": lambda: images + images.detach().mul_(0.5),
            "kind": lambda: None,
        }[self.how]()


@dataclass(frozen=True)
class AroundOutput(Steps):
    """Rounds to quarters; the stand-in's gradient is the output, computed once."""

    name = "around-output"

    def approximation_from_output(self, images, output, rng):
        assert not output.requires_grad
        return images * output


class Linear(torch.nn.Module):
    """Logits that are sums of the pixels, with known weights."""

    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, -1.0, 1.0, 0.5]])

    def forward(self, images):
        return images.flatten(1) @ self.weights.T


class Recorder(torch.nn.Module):
    """Another network, and how many images it is asked about at each call."""

    def __init__(self, network: torch.nn.Module, sizes: list[int]) -> None:
        super().__init__()
        self.network = network
        self.sizes = sizes

    def forward(self, images):
        self.sizes.append(len(images))
        return self.network(images)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(1))


def defended(*parts: Defense, draws: int = 1, ids: tuple[int, ...] = (4, 5, 6), seed: int = 0) -> DefendedClassifier:
    return DefendedClassifier(Linear().eval(), Chain(parts), SampleRandom(seed, "test", ids), draws)


def gradient(classifier: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Of the first logit."""
    images = images.clone().requires_grad_()
    return torch.autograd.grad(classifier(images)[:, 0].sum(), images)[0]


WEIGHTS = Linear.weights[0].view(1, 1, 2, 2)


def test_forward_is_the_true_defense_to_the_bit_with_and_without_gradient(images):
    expected = Linear()((images * 4).round() / 4)
    assert torch.equal(defended(Steps())(images), expected)
    assert torch.equal(defended(Steps())(images.clone().requires_grad_()).detach(), expected)


def test_backward_is_the_stand_ins_gradient(images):
    assert torch.equal(gradient(defended(Steps()), images), (2 * WEIGHTS).expand(3, 1, 2, 2))


def test_without_a_stand_in_the_gradient_passes_as_it_is(images):
    assert torch.equal(gradient(defended(Rounding()), images), WEIGHTS.expand(3, 1, 2, 2))


@pytest.mark.slow
def test_a_differentiable_defense_has_its_own_gradient(images):
    torch.testing.assert_close(gradient(defended(Square()), images), 2 * images * WEIGHTS)


def test_in_a_chain_each_part_has_its_gradient_at_the_point_that_reaches_it(images):
    rounded = (images * 4).round() / 4
    torch.testing.assert_close(gradient(defended(Steps(), Square()), images), 2 * 2 * rounded * WEIGHTS)
    assert torch.equal(defended(Steps(), Square())(images), Linear()(rounded**2))


def test_every_call_draws_a_stochastic_defense_anew_and_the_stand_in_the_same_numbers(images):
    classifier = defended(Jitter())
    first, second = classifier(images), classifier(images)
    assert not torch.equal(first, second)
    asked = images.clone().requires_grad_()
    logits = classifier(asked)
    factors = torch.autograd.grad(logits[:, 0].sum(), asked)[0] / WEIGHTS
    torch.testing.assert_close(logits.detach(), Linear()(images + factors), atol=1e-5, rtol=0)


def test_logits_and_gradients_are_means_over_the_draws(images):
    many = defended(Jitter(), draws=400)
    near = Linear()(images + 0.5)
    assert (many(images) - near).abs().max() < 0.35
    assert (defended(Jitter())(images) - near).abs().max() > 0.35
    torch.testing.assert_close(gradient(many, images), 0.5 * WEIGHTS.expand(3, 1, 2, 2), atol=0.25, rtol=0)


def test_a_samples_draws_do_not_depend_on_its_batch(images):
    whole = defended(Jitter(), draws=3)
    alone = defended(Jitter(), draws=3, ids=(5,))
    whole(images)
    alone(images[1:2])
    rows = torch.tensor([2, 1])
    part = for_rows(whole, rows)(images[rows])
    torch.testing.assert_close(part[1:], for_rows(alone, torch.tensor([0]))(images[1:2]))
    assert not torch.equal(part[0], for_rows(whole, torch.tensor([2]))(images[2:])[0])


def test_draws_that_go_together_are_those_that_go_one_by_one(images):
    together, alone = defended(Jitter(), draws=7), defended(Jitter(), draws=7)
    alone._graphs.at_once = lambda *_: 1
    sizes = []
    for classifier in (together, alone):
        classifier.network = Recorder(classifier.network, sizes)
        classifier._graphs.network = classifier.network
    for _ in range(2):
        torch.testing.assert_close(gradient(together, images), gradient(alone, images), atol=1e-6, rtol=0)
        torch.testing.assert_close(together(images), alone(images), atol=1e-6, rtol=0)
    assert sizes[0] == 3
    assert 21 in sizes


def test_a_batch_of_unknown_samples_is_drawn_anew_too(images):
    classifier = defended(Jitter())
    pair = classifier(images[:2])
    assert not torch.equal(pair, classifier(images[:2]))
    assert torch.equal(pair, defended(Jitter())(images[:2]))


def test_draws_of_a_deterministic_defense_are_one(images):
    calls = []
    classifier = defended(Steps(), draws=50)
    classifier.network.register_forward_hook(lambda *_: calls.append(1))
    classifier(images)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("shape", "the approximation of defense 'broken' returned shape"),
        ("nan", "the approximation of defense 'broken' returned NaN"),
        ("detached", "the approximation of defense 'broken' returned images without a gradient"),
        ("in-place", "the approximation of defense 'broken' changed its input images in place"),
        ("kind", "the approximation of defense 'broken' returned NoneType, not a tensor"),
        ("false", "defense 'broken' returned images without a gradient"),
    ],
)
def test_a_stand_in_is_held_to_its_contract(how, message, images):
    with pytest.raises(ContractError, match=message):
        gradient(defended(Broken(how)), images)


def test_the_approximation_gets_the_output(images: torch.Tensor) -> None:
    classifier = defended(AroundOutput())
    expected = ((images * 4).round() / 4).flatten(1) * Linear.weights[0]
    torch.testing.assert_close(gradient(classifier, images).flatten(1), expected)


@pytest.mark.parametrize(
    ("parts", "approximate"),
    [((Square(),), False), ((Steps(),), True), ((Jitter(),), True), ((Square(), Steps()), True)],
    ids=["differentiable", "approximated", "stochastic", "chain"],
)
def test_attacks_learn_whether_gradients_are_approximate(
    images: torch.Tensor, parts: tuple[Defense, ...], approximate: bool
) -> None:
    classifier = defended(*parts)
    log = QueryLog(images, Goal(torch.zeros(3, dtype=torch.int64)), LpBall(None))
    seen = RecordingClassifier(SplitCalls(InsetGradients(classifier, 1e-4), 2), log, "model")
    assert has_approximate_gradients(classifier) is approximate
    assert has_approximate_gradients(for_rows(seen, torch.tensor([0, 2]))) is approximate
    assert not has_approximate_gradients(RecordingClassifier(Linear(), log, "model"))


class ErasesOutput(AroundOutput):
    """Changes the output that its approximation gets, on which the forward pass depends."""

    def approximation_from_output(self, images, output, rng):
        output.zero_()
        return images


def test_an_approximation_that_changes_the_output_is_blamed(images: torch.Tensor) -> None:
    message = "the approximation of defense .* changed its input defended images in place"
    with pytest.raises(ContractError, match=message):
        gradient(defended(ErasesOutput()), images)
