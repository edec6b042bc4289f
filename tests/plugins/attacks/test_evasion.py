"""Attacks behind a detector: they fool the classifier first, and then evade the detector."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from tests.conftest import Called

from advbench.api import Answer, Attack, Detector, Goal, SampleRandom, can_reject
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier
from advbench.specs import Chain
from advbench_attacks.gradient.apgd import AutoPgd
from advbench_attacks.gradient.pgd import ProjectedGradientDescent


class TwoClasses(torch.nn.Module):
    """The class is 1 where the first pixel is above a half."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logit = 20 * (images[:, 0, 0, 0] - 0.5)
        return torch.stack((-logit, logit), dim=1)


@dataclass(frozen=True)
class Undecided(Detector):
    """Suspicious are images between the classes, and those with a large second pixel, which the first one raises."""

    name: ClassVar[str] = "undecided"

    def suspicion(self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        doubt = -network(images).abs().amax(dim=1) / 4
        return torch.maximum(doubt, images[:, 0, 0, 1] + images[:, 0, 0, 0] - 1)


@dataclass(frozen=True)
class Chosen(Undecided):
    """The same with logits of its own for attacks."""

    name: ClassVar[str] = "chosen"

    def attack_logits(self, answer: Answer, labels: torch.Tensor) -> torch.Tensor:
        return super().attack_logits(answer, labels)


def defended(count: int, detector: type[Detector] = Undecided) -> DefendedClassifier:
    rng = SampleRandom(0, "defense", range(count))
    labels = torch.zeros(count, dtype=torch.int64)
    fitted = ({"threshold": -0.3, "spread": 0.1},)
    return DefendedClassifier(TwoClasses(), Chain((detector(),)), rng, 1, labels=labels, fitted=fitted)


@pytest.mark.parametrize("loss", ["ce", "margin"])
@pytest.mark.parametrize("attack", [ProjectedGradientDescent, AutoPgd])
def test_an_attack_crosses_images_that_the_detector_rejects(attack: type[Attack], loss: str) -> None:
    images = torch.full((5, 1, 1, 2), 0.35)
    images[:, 0, 0, 1] = torch.linspace(0, 0.3, 5)
    model, goal = defended(5), Goal(torch.zeros(5, dtype=torch.int64))
    assert can_reject(model)
    crafted = attack(eps=0.3, loss=loss).craft(model, images, goal, SampleRandom(0, "attack", range(5)))  # type: ignore[call-arg]
    assert isinstance(crafted, torch.Tensor)
    answered = model.full_answer(crafted)
    assert answered.score is not None
    assert (answered.logits.argmax(dim=1) == 1).all()
    assert (answered.score <= 0).all()


def test_a_sample_keeps_its_point_whatever_else_is_in_the_batch() -> None:
    images = torch.rand(4, 1, 1, 2, generator=torch.Generator().manual_seed(0)) * 0.4
    attack = ProjectedGradientDescent(eps=0.3, early_stop=True)
    rng = SampleRandom(0, "attack", range(4))
    together = attack.craft(defended(4), images, Goal(torch.zeros(4, dtype=torch.int64)), rng)
    for row in range(4):
        alone = attack.craft(
            defended(1),
            images[row : row + 1],
            Goal(torch.zeros(1, dtype=torch.int64)),
            SampleRandom(0, "attack", [row]),
        )
        assert torch.equal(alone, together[row : row + 1])


def test_a_detector_that_chooses_its_logits_is_attacked_through_them() -> None:
    assert not can_reject(defended(1, Chosen))


@pytest.mark.slow
def test_knowing_the_detector_helps_against_it(call: Callable[..., Called], tmp_path: Path) -> None:
    called = call(
        *("matrix", "--datasets", "mnist-5k", "--models", "mnist-cnn", "--attacks", "pgd:steps=20"),
        *("--defenses", "feature-squeezing", "--threats", "oblivious", "adaptive", "--limit", 40),
        *("--fit-samples", 200, "--store", tmp_path / "store", "--export", tmp_path / "cells.json"),
    )
    assert called.code == 0, called.err
    oblivious, adaptive = json.loads((tmp_path / "cells.json").read_text())["cells"]
    assert (oblivious["threat"], adaptive["threat"]) == ("oblivious", "adaptive")
    assert adaptive["robust_accuracy"] < oblivious["robust_accuracy"]
    assert not adaptive["findings"]
