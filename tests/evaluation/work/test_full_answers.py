"""``api.answer``: an attack gets the logits and the score of a detector, as far as its access goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch

from advbench.api import (
    Access,
    ClassifierWrapper,
    ContractError,
    Detector,
    Goal,
    LpBall,
    SampleRandom,
    answer,
    can_reject,
    for_rows,
    param,
)
from advbench.api.rows import QueriesSpent
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier
from advbench.evaluation.work.attacked.batch import SplitCalls
from advbench.evaluation.work.attacked.gradients_at_bounds import InsetGradients
from advbench.evaluation.work.attacked.query_log import QueryLog, RecordingClassifier
from advbench.specs import Chain

FITTED = ({"threshold": 0.5, "spread": 0.5},)
IMAGES = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
SCORES = (IMAGES.mean(dim=(1, 2, 3)) - 0.5) / 0.5


@dataclass(frozen=True)
class Bright(Detector):
    """The suspicion is the mean, and noise if it is random."""

    name: ClassVar[str] = "bright"
    sigma: float = param(0.0, min=0, help="standard deviation of the noise")

    @property
    def stochastic(self) -> bool:
        return self.sigma > 0

    def suspicion(self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        means = images.mean(dim=(1, 2, 3))
        return means + rng.normal(std=self.sigma) if self.sigma else means


def own_logits(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)[:, :2] * 3


class Net(torch.nn.Module):
    """Its logits are the first two pixels, times 3."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return own_logits(images)


def defended(detector: Detector | None = None, draws: int = 1) -> DefendedClassifier:
    chain = Chain((detector or Bright(),))
    return DefendedClassifier(
        Net(), chain, SampleRandom(0, "defense", range(len(IMAGES))), draws, labels=LABELS, fitted=FITTED
    )


def recorded(
    target: torch.nn.Module, access: Access = "gradients", most: int | None = None
) -> tuple[RecordingClassifier, QueryLog]:
    log = QueryLog(IMAGES, Goal(LABELS), LpBall("linf", 0.5), most=most)
    return RecordingClassifier(target, log, "the model", access=access), log


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: SplitCalls(x, 4), lambda x: InsetGradients(x, 0.1)])
def test_the_answer_has_the_models_own_logits_and_the_score(wrap: Any) -> None:
    model, log = recorded(wrap(defended()))
    leaf = IMAGES.clone().requires_grad_()
    answered = answer(model, leaf)
    assert can_reject(model)
    assert torch.equal(answered.logits, own_logits(IMAGES))
    assert answered.score is not None
    assert torch.allclose(answered.score, SCORES)
    (gradient,) = torch.autograd.grad(answered.score.sum(), leaf, retain_graph=True)
    assert torch.allclose(gradient, torch.full_like(gradient, 0.5))
    torch.autograd.grad(answered.logits.sum(), leaf)
    assert log.meter.forwards.tolist() == [1] * 6
    assert log.meter.backwards.tolist() == [2] * 6
    wrong = own_logits(IMAGES).argmax(dim=1) != LABELS
    assert log.seen.tolist() == (wrong & (SCORES <= 0)).tolist()
    assert bool((wrong & (SCORES > 0)).any())


def test_rows_are_those_of_the_samples() -> None:
    rows = torch.tensor([5, 0, 5])
    model, log = recorded(defended())
    answered = answer(for_rows(model, rows), IMAGES[rows])
    assert answered.score is not None
    assert torch.allclose(answered.score, SCORES[rows])
    assert log.meter.forwards.tolist() == [1, 0, 0, 0, 0, 2]


def test_the_score_is_the_mean_over_the_draws() -> None:
    model, log = recorded(defended(Bright(sigma=1.0), 400))
    answered = answer(model, IMAGES)
    assert answered.score is not None
    assert (answered.score - SCORES).abs().max() < 0.5
    assert log.meter.forwards.tolist() == [400] * 6


def test_an_attack_gets_no_more_than_its_access() -> None:
    leaf = IMAGES.clone().requires_grad_()
    scores, labels = (answer(recorded(defended(), access)[0], leaf) for access in ("scores", "labels"))  # type: ignore[arg-type]
    assert scores.score is not None
    assert torch.allclose(scores.score, SCORES)
    assert not scores.score.requires_grad
    assert not scores.logits.requires_grad
    assert labels.score is not None
    assert labels.score.tolist() == torch.where(SCORES > 0, 1.0, -1.0).tolist()
    assert set(labels.logits.flatten().tolist()) == {0.0, 1.0}
    with pytest.raises(ContractError, match="declares access = 'nothing'"):
        answer(recorded(defended(), "nothing")[0], IMAGES)


def test_answers_beyond_the_limit_count_for_nothing() -> None:
    model, log = recorded(defended(), most=2)
    answer(for_rows(model, torch.tensor([0, 0])), IMAGES[:1].repeat(2, 1, 1, 1))
    answered = answer(model, IMAGES)
    assert log.meter.forwards.tolist() == [2, 1, 1, 1, 1, 1]
    assert answered.score is not None
    assert answered.score[0] == -1
    assert answered.logits[0].argmax() != LABELS[0]
    assert torch.allclose(answered.score[1:], SCORES[1:])
    answer(model, IMAGES)
    with pytest.raises(QueriesSpent):
        answer(model, IMAGES)


def test_a_classifier_that_rejects_nothing_has_no_score() -> None:
    for model in (Net(), recorded(Net())[0]):
        answered = answer(model, IMAGES)
        assert answered.score is None
        assert torch.equal(answered.logits, own_logits(IMAGES))
        assert not can_reject(model)


class Brighter(ClassifierWrapper):
    """Asks about brighter images; counts them."""

    def __init__(self, target: torch.nn.Module, counts: list[int], times: int = 1) -> None:
        super().__init__(target)
        self.counts, self.times = counts, times

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.counts.append(len(images))
        logits: torch.Tensor = torch.stack([self.target(images + 0.1) for _ in range(self.times)]).mean(dim=0)
        return logits


def test_what_a_wrapper_does_to_images_it_does_for_answers() -> None:
    counts: list[int] = []
    model = Brighter(defended(), counts)
    part = for_rows(model, torch.tensor([1, 2]))
    answered = answer(part, IMAGES[1:3])
    assert answered.score is not None
    assert torch.allclose(answered.score, SCORES[1:3] + 0.2)
    assert torch.allclose(answered.logits, own_logits(IMAGES[1:3] + 0.1))
    assert counts == [2]
    with pytest.raises(ContractError, match=r"Brighter asked its target about 12 images for 6; define full_answer\(\)"):
        answer(Brighter(defended(), counts, 2), IMAGES)
