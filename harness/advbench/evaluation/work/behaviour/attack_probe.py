"""How an attack is asked what it does: by a few synthetic images and a classifier that every process builds alike."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Iterator

import numpy as np
import torch

from advbench.api import Attack, SampleRandom

__all__ = ["ATTACK_SAMPLES", "attacked_points", "attacked_samples"]

ATTACK_SAMPLES = 4
"""How many images an attack is asked about."""

_CALLS, _FEWEST_CALLS = 200, 20
"""How often an attack may ask the classifier about images of up to 6,000 pixels, and about large ones: one that asks
more often is known by the last points that it asked. So plans take no longer for it than a second or so."""

_FEATURES = 16
_SEED = 20261128


class _EnoughError(Exception):
    """The attack has asked as often as it may."""


class _Classifier(torch.nn.Module):
    """Logits that are quadratic in the pixels, computed in float64, so that threads hardly round them otherwise.

    A linear classifier would not do: at a corner of the budget's ball end many step sizes and numbers of steps.

    Args:
        shape: The images' channels, height and width.
        classes: How many logits there are.
    """

    def __init__(self, shape: torch.Size, classes: int) -> None:
        super().__init__()
        generator = np.random.Generator(np.random.Philox(key=_SEED))
        pixels, size = math.prod(shape), (math.prod(shape), _FEATURES)
        self.slopes, self.curves = (torch.from_numpy(generator.choice([-1.0, 1.0], size)) for _ in range(2))
        self.mix = torch.from_numpy(generator.random((_FEATURES, classes)) * 2 - 1)
        self.scale = 6 / math.sqrt(pixels * _FEATURES)
        self.training = False
        self.calls_left = max(_FEWEST_CALLS, min(_CALLS, _CALLS * 6000 // pixels))
        self.last: torch.Tensor | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits, float32, shape (batch, classes).

        Raises:
            _EnoughError: It has been asked too often.
        """
        if not self.calls_left:
            raise _EnoughError
        self.calls_left -= 1
        if len(images) == ATTACK_SAMPLES:
            self.last = images.detach().clone()
        centred = images.double().flatten(1) - 0.47
        features = centred @ self.slopes + 1.3 * centred.square() @ self.curves
        return (features @ self.mix * self.scale).to(torch.float32)


def attacked_samples(shape: tuple[int, int, int]) -> torch.Tensor:
    """The images that an attack is asked about: float32, shape (4, channels, height, width).

    Two are noise inside [0, 1], one has all pixels at the bounds, and one is a slope.
    """
    generator = np.random.Generator(np.random.Philox(key=_SEED + 1))
    noise = generator.random((3, *shape), dtype=np.float32)
    slope = np.broadcast_to(np.linspace(0.1, 0.9, shape[-1], dtype=np.float32), shape)
    return torch.from_numpy(np.stack([noise[0] * 0.8 + 0.1, noise[1] * 0.5 + 0.2, noise[2].round(), slope]))


def attacked_points(attack: Attack, images: torch.Tensor, classes: int) -> torch.Tensor:
    """What an attack makes of these images, where the classifier says of each that its label is right.

    Global generators begin at the same state each time, as they do for each task.

    Args:
        attack: The attack.
        images: Those of :func:`attacked_samples`, on the processor.
        classes: How many classes there are.
    """
    classifier = _Classifier(images.shape[1:], classes)
    labels = classifier(images).argmax(dim=1)
    random.seed(_SEED)
    np.random.seed(_SEED)
    torch.default_generator.manual_seed(_SEED)
    with torch.enable_grad(), _one_thread():
        try:
            rng = SampleRandom(_SEED, "behaviour", range(len(images)), images.device)
            made, _ = attack.run_with_notes(classifier, images.clone(), labels, rng)
        except _EnoughError:
            assert classifier.last is not None
            made = classifier.last
    return made


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Computes in one thread, which for so few pixels takes no longer and rounds the same everywhere."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
