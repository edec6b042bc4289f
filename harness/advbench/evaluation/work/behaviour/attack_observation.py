"""Runs an attack on a few synthetic images and a classifier that is the same in every process."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from advbench.api import Answer, Attack, SampleRandom
from advbench.contracts.artefacts import trial_artefact
from advbench.contracts.attacks import check_crafted
from advbench.contracts.goals import trial_goal

__all__ = ["ATTACK_SAMPLES", "CutOff", "FixedClassifier", "attack_sample_images", "run_attack"]

ATTACK_SAMPLES = 4
"""How many images an attack is run on."""

_MAX_CALLS, _MIN_CALLS = 1000, 40
"""How often an attack may query the classifier for images of up to 6,000 values, and for large ones. For an attack that
queries it more often, the points of these queries count. This bounds the time of planning to a few seconds."""

_FEATURES = 16
_SEED = 20261128


class CutOff(NamedTuple):
    """What is known of an attack that was ended since it queried the classifier too often.

    Attributes:
        calls: The number of queries after which it was ended.
        sums: Four weighted sums of the queried points, shape (4, channels, height, width): of the first query, the
            fifth and so on; of the second, the sixth and so on; and two more.
    """

    calls: int
    sums: torch.Tensor


class _QueryLimitError(Exception):
    """The attack has reached its number of queries."""


class FixedClassifier(torch.nn.Module):
    """A classifier with logits quadratic in the pixels, in float64, so that the number of threads hardly changes them.

    A linear classifier would not distinguish attacks, since many step sizes and numbers of steps end at the same corner
    of the budget's ball.

    Args:
        shape: The channels, height and width of the images.
        classes: The number of logits.
        limited: Whether it may be queried a limited number of times.
        defended: Whether it declares what the classifiers behind defenses declare: that it is stochastic, with
            approximate gradients, may reject images, and has a limit of queries. It answers as it does otherwise.
    """

    def __init__(self, shape: Sequence[int], classes: int, *, limited: bool = True, defended: bool = False) -> None:
        super().__init__()
        self.stochastic = self.approximate_gradients = self.can_reject = self.limited_queries = defended
        generator = np.random.Generator(np.random.Philox(key=_SEED))
        pixels, size = math.prod(shape), (math.prod(shape), _FEATURES)
        self.slopes, self.curves = (torch.from_numpy(generator.choice([-1.0, 1.0], size)) for _ in range(2))
        self.mix = torch.from_numpy(generator.random((_FEATURES, classes)) * 2 - 1)
        self.scale = 6 / math.sqrt(pixels * _FEATURES)
        self.training = False
        self.most = max(_MIN_CALLS, min(_MAX_CALLS, _MAX_CALLS * 6000 // pixels))
        self.calls = 0
        self.limited = limited
        self.sums = torch.zeros(ATTACK_SAMPLES, *shape, dtype=torch.float64) if limited else torch.empty(0)

    def full_answer(self, images: torch.Tensor) -> Answer:
        """The logits, with a score by which no image is rejected if the classifier may reject images."""
        logits = self(images)
        return Answer(logits, torch.full_like(logits[:, 0], -1.0) if self.can_reject else None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits, float32, shape (batch, classes).

        Raises:
            _QueryLimitError: It has been queried too often.
        """
        if self.limited:
            if self.calls == self.most:
                raise _QueryLimitError
            turn, place = divmod(self.calls, ATTACK_SAMPLES)
            # With signs that alternate, the clean images cancel out; the weights tell the order of the points.
            weight = (1 + self.calls / self.most) * (-1) ** turn
            self.sums[place] += weight * images.detach().cpu().double().sum(dim=0)
            self.calls += 1
        centred = images.cpu().double().flatten(1) - 0.47
        features = centred @ self.slopes + 1.3 * centred.square() @ self.curves
        return (features @ self.mix * self.scale).to(images.device, torch.float32)


def attack_sample_images(shape: tuple[int, int, int]) -> torch.Tensor:
    """The images that an attack is run on: float32, shape (4, channels, height, width).

    Two are noise inside [0, 1], one has all pixels at the bounds, and one is a gradient.
    """
    generator = np.random.Generator(np.random.Philox(key=_SEED + 1))
    noise = generator.random((3, *shape), dtype=np.float32)
    slope = np.broadcast_to(np.linspace(0.1, 0.9, shape[-1], dtype=np.float32), shape)
    return torch.from_numpy(np.stack([noise[0] * 0.8 + 0.1, noise[1] * 0.5 + 0.2, noise[2].round(), slope]))


def run_attack(attack: Attack, images: torch.Tensor, classes: int, *, defended: bool = False) -> torch.Tensor | CutOff:
    """Runs an attack on images that the classifier classifies correctly.

    The global random generators have the same state each time, as for each task.

    Args:
        attack: The attack.
        images: The images of :func:`attack_sample_images`, on the CPU.
        classes: The number of classes.
        defended: Whether the classifier declares what those behind defenses declare.

    Returns:
        The adversarial images, shape (4, channels, height, width); or what it has queried, if that was too often.
    """
    classifier = FixedClassifier(images.shape[1:], classes, defended=defended)
    logits = classifier(images)
    goal = trial_goal(attack, logits.argmax(dim=1), logits)
    random.seed(_SEED)
    np.random.seed(_SEED)
    torch.default_generator.manual_seed(_SEED)
    with torch.enable_grad(), _one_thread():
        try:
            rng = SampleRandom(_SEED, "behaviour", range(len(images)), images.device)
            fitted = trial_artefact(attack, classifier, images, goal, rng.derive("fit"))
            return check_crafted(attack, attack.craft(classifier, images.clone(), goal, rng, fitted)).images
        except _QueryLimitError:
            return CutOff(classifier.calls, classifier.sums)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Computes in one thread, which is as fast for so few pixels, and rounds the same everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
