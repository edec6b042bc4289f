"""Classifiers that show what attacks do: a linear one, and ones that draw at random, or have no useful gradients."""

from __future__ import annotations

import torch

from advbench.api import SampleRandom


class Linear(torch.nn.Module):
    """A few classes whose boundaries are planes, with weights of very different sizes; images of 1×3×4."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        size = torch.linspace(0.05, 2.0, 12)
        self.weight = torch.nn.Parameter(torch.randn(classes, 12, generator=generator) * size, requires_grad=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1) - 0.5) @ self.weight.T

    def distance(self, images: torch.Tensor, labels: torch.Tensor, norm: str) -> torch.Tensor:
        """The distance to the nearest other class, |f(x)|/‖w‖ in the dual norm."""
        logits = self(images)
        gaps = logits.gather(1, labels[:, None]) - logits
        widths = (self.weight[labels][:, None] - self.weight).norm(p={"linf": 1, "l2": 2}[norm], dim=2)
        return (gaps / widths).nan_to_num(float("inf")).scatter(1, labels[:, None], float("inf")).amin(dim=1)

    def best_margin(self, images: torch.Tensor, labels: torch.Tensor, norm: str, eps: float) -> torch.Tensor:
        """The highest margin of another class within eps, where [0, 1] does not bind."""
        logits = self(images)
        gaps = logits - logits.gather(1, labels[:, None])
        widths = (self.weight[labels][:, None] - self.weight).norm(p={"linf": 1, "l2": 2}[norm], dim=2)
        return (gaps + eps * widths).scatter(1, labels[:, None], float("-inf")).amax(dim=1)


class Noisy(torch.nn.Module):
    """A network whose logits are shaken by each sample's own random stream."""

    def __init__(self, network: torch.nn.Module, rng: SampleRandom) -> None:
        super().__init__()
        self.training = False
        self.stochastic = True
        self.network = network
        self.rng = rng

    def for_rows(self, rows: torch.Tensor) -> Noisy:
        return Noisy(self.network, self.rng[rows])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert len(images) == len(self.rng), "called without the rows of its samples"
        logits = self.network(images)
        return logits + self.rng.normal(logits.shape[1], std=0.05)


class Constant(torch.nn.Module):
    """Three logits that are the same for every image: the first class, whose gradients are zero."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).sum(dim=1, keepdim=True) * 0 + torch.tensor([[1.0, 0.0, 0.0]])


class Undefined(torch.nn.Module):
    """Five constant logits, whose gradients are no numbers.

    Args:
        images_only: Whether calls with NaN pixels fail.
    """

    def __init__(self, *, images_only: bool = True) -> None:
        super().__init__()
        self.images_only = images_only

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.isfinite().all() or not self.images_only, "called with values that are not images"
        root = (images.flatten(1).sum(dim=1, keepdim=True) * 0).sqrt()  # its slope is 0 · ∞
        return root + torch.tensor([[0.0, 0.1, 0.2, 0.3, 1.0]])


class Holed(torch.nn.Module):
    """A network whose logits are numbers at some images alone."""

    def __init__(self, network: torch.nn.Module, images: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.images = images

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.isfinite().all(), "called with values that are not images"
        known = (images[:, None] == self.images).flatten(2).all(dim=2).any(dim=1, keepdim=True)
        return torch.where(known, self.network(images), float("nan"))


class Staircase(torch.nn.Module):
    """A network behind a rounding of its input, through which no gradient comes."""

    def __init__(self, network: torch.nn.Module, levels: int = 1000) -> None:
        super().__init__()
        self.network = network
        self.levels = levels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network((images * self.levels).round() / self.levels)


def inner_images(count: int) -> torch.Tensor:
    """Images of 1×3×4 so far inside [0, 1] that the bounds keep no attack from a linear classifier's boundary."""
    return 0.5 + (torch.rand(count, 1, 3, 4, generator=torch.Generator().manual_seed(4)) - 0.5) * 0.4


def sizes(changes: torch.Tensor, norm: str) -> torch.Tensor:
    """The norms of changes of images, shape (batch,), float64."""
    return torch.linalg.vector_norm(changes.double().flatten(1), {"linf": float("inf"), "l2": 2.0}[norm], dim=1)
