"""Images, and small classifiers with known properties, to test components on."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from advbench.api import Answer, ClassifierWrapper, Norm
from advbench.evaluation.work.attacked.adaptive import seen_logits
from advbench.testing.finding import expect

__all__ = [
    "CLASSES",
    "SHAPES",
    "ConstantClassifier",
    "Guarded",
    "Linear",
    "edge_images",
    "example_images",
    "forbid_global_generators",
    "near_grey_images",
]

CLASSES = 10
"""Number of classes of the classifiers here."""

SHAPES = ((1, 28, 28), (3, 32, 32))
"""Image shapes of MNIST and CIFAR-10; components that do not accept one are tested on the other."""


def example_images(shape: tuple[int, int, int], count: int = 6) -> torch.Tensor:
    """Returns smooth random images, one of noise, one black and one white: float32 in [0, 1], multiples of 1/255."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(count, shape[0], 4, 4, generator=generator)
    images = torch.nn.functional.interpolate(coarse, shape[1:], mode="bilinear", align_corners=False)
    images[0] = torch.rand(shape, generator=generator)
    images[1:3] = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    return (images * 255).round() / 255


class Linear(torch.nn.Module):
    """A linear classifier with random weights, for which distances to boundaries are known.

    Args:
        shape: Shape of the images.
        classes: Number of logits.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int = CLASSES) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(11)
        weights = torch.randn(classes, shape[0] * shape[1] * shape[2], generator=generator)
        self.weights = torch.nn.Parameter(weights, requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns logits, shape (batch, classes); all are 0 for a uniformly grey image."""
        logits: torch.Tensor = (images.flatten(1) - 0.5) @ self.weights.T
        return logits

    def distances(self, images: torch.Tensor, norm: Norm) -> torch.Tensor:
        """Returns each image's distance to the nearest boundary, ignoring clipping; shape (batch,)."""
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


class Guarded(ClassifierWrapper):
    """A classifier behind a detector that rejects dark images.

    Args:
        target: The classifier.
        labels: The true labels of the samples, int64, shape (batch,).
        threshold: The mean of the pixels below which an image is rejected.
    """

    def __init__(self, target: torch.nn.Module, labels: torch.Tensor, threshold: float = 0.45) -> None:
        super().__init__(target)
        self.labels, self.threshold = labels, threshold
        self.can_reject = True

    def for_rows(self, rows: torch.Tensor) -> Guarded:
        """The classifier for some of the samples."""
        part = super().for_rows(rows)
        part.labels = self.labels[rows]
        return part

    def full_answer(self, images: torch.Tensor) -> Answer:
        """The classifier's logits, and the score of the detector."""
        return Answer(self.target(images), self.threshold - images.mean(dim=(1, 2, 3)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits that attacks see; those of the classifier if it is unknown to which samples the images belong."""
        answered = self.full_answer(images)
        return seen_logits(answered, self.labels) if len(images) == len(self.labels) else answered.logits


class ConstantClassifier(torch.nn.Module):
    """Predicts the same class for every image; its gradients are zero."""

    logits: torch.Tensor

    def __init__(self, predicted_class: int, classes: int = CLASSES) -> None:
        super().__init__()
        self.register_buffer("logits", torch.nn.functional.one_hot(torch.tensor(predicted_class), classes) * 4.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns logits, shape (batch, classes)."""
        return self.logits + 0 * images.flatten(1).sum(dim=1, keepdim=True)


def near_grey_images(shape: tuple[int, int, int], count: int) -> torch.Tensor:
    """Returns grey images with little noise: close to every boundary of :class:`Linear`, far from black and white."""
    return 0.5 + 0.02 * (torch.rand(count, *shape, generator=torch.Generator().manual_seed(5)) - 0.5)


def edge_images(shape: tuple[int, int, int], count: int) -> torch.Tensor:
    """Returns near-grey images in which some pixels are at exactly 0 and 1, and some within 1/255 of these."""
    images = near_grey_images(shape, count)
    drawn = torch.randint(0, 16, images.shape, generator=torch.Generator().manual_seed(6))
    for number, value in enumerate((0.0, 1 / 255, 254 / 255, 1.0)):
        images[drawn == number] = value
    return images


@contextlib.contextmanager
def forbid_global_generators() -> Iterator[None]:
    """Raises RuleViolated if the code inside draws from or seeds a global random generator."""
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
