"""What components are tried on: images, and small classifiers of which everything is known."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from advbench.api import Norm
from advbench.testing.finding import expect

__all__ = ["CLASSES", "SHAPES", "Linear", "Unfoolable", "global_generators_untouched", "greyish_images", "images_of"]

CLASSES = 10
"""Of the classifiers here."""

SHAPES = ((1, 28, 28), (3, 32, 32))
"""MNIST's and CIFAR-10's; what does not take the one is tried on the other."""


def images_of(shape: tuple[int, int, int], count: int = 6) -> torch.Tensor:
    """Smooth random images, one of noise, one black and one white: float32 in [0, 1], whole steps of 1/255."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(count, shape[0], 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear", align_corners=False)
    images[0] = torch.rand(shape, generator=generator)
    images[1:3] = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    return (images * 255).round() / 255


class Linear(torch.nn.Module):
    """A linear classifier with random weights, of which every distance to a boundary is known.

    Args:
        shape: Of the images.
        classes: How many logits.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int = CLASSES) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(11)
        weights = torch.randn(classes, shape[0] * shape[1] * shape[2], generator=generator)
        self.weights = torch.nn.Parameter(weights, requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, classes); all are 0 for a grey image."""
        logits: torch.Tensor = (images.flatten(1) - 0.5) @ self.weights.T
        return logits

    def distances(self, images: torch.Tensor, norm: Norm) -> torch.Tensor:
        """How far each image is from the nearest boundary, where clipping does not matter; shape (batch,)."""
        logits = self(images)
        label = logits.argmax(dim=1)
        gaps = logits.gather(1, label[:, None]) - logits
        normals = self.weights[label][:, None] - self.weights[None]
        dual = {"linf": 1.0, "l2": 2.0, "l1": float("inf")}.get(norm)
        if dual is None:
            return torch.full((len(images),), float("inf"))
        steps = gaps / torch.linalg.vector_norm(normals, dual, dim=2)
        nearest: torch.Tensor = steps.scatter(1, label[:, None], float("inf")).amin(dim=1)
        return nearest


class Unfoolable(torch.nn.Module):
    """Says the same of every image, whatever is done to it; its gradients are zero."""

    logits: torch.Tensor

    def __init__(self, answer: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.register_buffer("logits", torch.nn.functional.one_hot(torch.tensor(answer), classes) * 4.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, shape (batch, classes)."""
        return self.logits + 0 * images.flatten(1).sum(dim=1, keepdim=True)


def greyish_images(shape: tuple[int, int, int], count: int) -> torch.Tensor:
    """Grey images with a little noise: near every boundary of :class:`Linear`, and far from black and white."""
    return 0.5 + 0.02 * (torch.rand(count, *shape, generator=torch.Generator().manual_seed(5)) - 0.5)


@contextlib.contextmanager
def global_generators_untouched() -> Iterator[None]:
    """Raises Broken when what happens inside draws from, or seeds, the generators that all code shares."""
    before = _states()
    yield
    for name, state in _states().items():
        expect(
            state == before[name],
            "random numbers from rng alone",
            f"the global generator of {name} was drawn from or seeded",
        )


def _states() -> dict[str, object]:
    numpy = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": (numpy[1].tobytes(), numpy[2]),  # type: ignore[index]
        "random": random.getstate(),
    }
