"""A complete plugin in one file: small, quick and known in every number. Loaded with ``--plugin``.

Where TOY_LOG names a file, every run of an attack appends a line to it, so that tests see what was computed.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from advbench.api import Attack, Budget, Dataset, Defense, LabelledImages, Model, hookimpl, param

SHAPE = (1, 4, 4)


@dataclass(frozen=True)
class Toy(Dataset):
    """Random images, labelled by the toy model itself but for every tenth."""

    name = "toy"
    image_shape = SHAPE
    num_classes = 3
    size: int = param(40, min=1, help="how many images")

    def ids(self):
        return range(100, 100 + self.size)

    def load(self, sources):
        images = torch.rand(self.size, *SHAPE, generator=torch.Generator().manual_seed(7))
        labels = Linear(1.0)(images).argmax(dim=1)
        labels[::10] = (labels[::10] + 1) % 3
        return LabelledImages(images, labels, torch.tensor(self.ids()))


@dataclass(frozen=True)
class ToyRgb(Dataset):
    """Images that the toy model cannot take."""

    name = "toy-rgb"
    image_shape = (3, 4, 4)
    num_classes = 3

    def ids(self):
        return range(5)

    def load(self, sources):
        return LabelledImages(torch.zeros(5, 3, 4, 4), torch.zeros(5, dtype=torch.int64), torch.arange(5))


class Linear(torch.nn.Module):
    """A linear classifier with fixed weights."""

    def __init__(self, scale):
        super().__init__()
        weights = torch.randn(3, 16, generator=torch.Generator().manual_seed(3)) * scale
        self.weights = torch.nn.Parameter(weights)

    def forward(self, images):
        return (images.flatten(1) - 0.5) @ self.weights.T


@dataclass(frozen=True)
class ToyLinear(Model):
    """A linear classifier."""

    name = "toy-linear"
    self_contained = True
    image_shape = SHAPE
    num_classes = 3
    scale: float = param(1.0, above=0, help="factor of all weights")

    def load(self):
        return Linear(self.scale)

    def weights_digest(self):
        return hashlib.sha256(f"{self.scale}{os.environ.get('TOY_WEIGHTS', '')}".encode()).hexdigest()


@dataclass(frozen=True)
class ToySign(Attack):
    """One signed gradient step, with a random jitter that tests look for."""

    name = "toy-sign"
    self_contained = True
    eps: float = param(0.1, min=0, help="L-infinity budget")
    jitter: bool = param(False, help="start from a random point")
    delay: float = param(0.0, min=0, help="seconds to wait a batch")

    def budget(self):
        return Budget("linf", self.eps)

    def passes(self):
        return 1

    def run(self, model, images, labels, rng):
        log = os.environ.get("TOY_LOG")
        if log:
            with Path(log).open("a") as file:
                file.write(f"{self.eps} {len(images)}\n")
        time.sleep(self.delay)
        start = images.clone()
        if self.jitter:
            start = (start + rng.uniform(*SHAPE, low=-self.eps, high=self.eps)).clamp(0, 1)
        start.requires_grad_(True)
        loss = torch.nn.functional.cross_entropy(model(start), labels, reduction="sum")
        step = torch.autograd.grad(loss, start)[0].sign() * self.eps
        return (images + ((start.detach() + step) - images).clamp(-self.eps, self.eps)).clamp(0, 1)


@dataclass(frozen=True)
class ToyMinimal(Attack):
    """Fools every second sample by inverting it, and finds nothing for the others."""

    name = "toy-minimal"
    self_contained = True

    def run(self, model, images, labels, rng):
        found = torch.tensor([i % 2 == 0 for i in rng.ids])
        return torch.where(found[:, None, None, None], 1 - images, images)


@dataclass(frozen=True)
class ToyRogue(Attack):
    """Breaks the contract of attacks in the way that it is told."""

    name = "toy-rogue"
    how: str = param(
        "raise",
        choices=("raise", "exit", "nan", "range", "budget", "shape", "dtype", "in-place", "none"),
        help="which part of the contract to break",
    )

    def budget(self):
        return Budget("linf", 0.1)

    def run(self, model, images, labels, rng):
        if self.how == "raise":
            raise RuntimeError("this attack always fails")
        if self.how == "exit":
            raise SystemExit("this attack leaves")
        if self.how == "in-place":
            images += 0.05
            return images.clamp(0, 1)
        return {
            "nan": images * float("nan"),
            "range": images + 2,
            "budget": 1 - images,
            "shape": images[:, :, :2],
            "dtype": images.double(),
            "none": None,
        }[self.how]


@dataclass(frozen=True)
class Keep(Defense):
    """Leaves images as they are."""

    name = "toy-keep"
    self_contained = True
    identity = True

    def apply(self, images, rng):
        return images


@dataclass(frozen=True)
class Dim(Defense):
    """Draws images towards grey."""

    name = "toy-dim"
    self_contained = True
    factor: float = param(0.5, min=0, max=1, help="how much contrast is left")

    def apply(self, images, rng):
        return (images - 0.5) * self.factor + 0.5


@dataclass(frozen=True)
class Flip(Defense):
    """Turns images upside down, with the gradient that belongs to that."""

    name = "toy-flip"
    self_contained = True

    def apply(self, images, rng):
        return 1 - images.flip(2)

    def approximation(self, images, rng):
        return 1 - images.flip(2)


@dataclass(frozen=True)
class BadStandIn(Defense):
    """Has a stand-in of another shape."""

    name = "toy-bad-stand-in"

    def apply(self, images, rng):
        return images

    def approximation(self, images, rng):
        return images[:, :, :2]


@dataclass(frozen=True)
class Noise(Defense):
    """Adds noise."""

    name = "toy-noise"
    self_contained = True
    sigma: float = param(0.3, min=0, help="standard deviation")

    @property
    def stochastic(self):
        return True

    def apply(self, images, rng):
        return images + rng.normal(*SHAPE, std=self.sigma)


@dataclass(frozen=True)
class Rogue(Defense):
    """Breaks the contract of defenses in the way that it is told."""

    name = "toy-rogue-defense"
    how: str = param("raise", choices=("raise", "nan", "shape", "in-place"), help="which part to break")

    def apply(self, images, rng):
        if self.how == "raise":
            raise RuntimeError("this defense always fails")
        if self.how == "in-place":
            return images.mul_(0.5)
        return {"nan": images * float("nan"), "shape": images[:, :, :2]}[self.how]


@hookimpl
def register_datasets(register):
    register(Toy)
    register(ToyRgb)


@hookimpl
def register_models(register):
    register(ToyLinear)


@hookimpl
def register_attacks(register):
    for attack in (ToySign, ToyMinimal, ToyRogue):
        register(attack)


@hookimpl
def register_defenses(register):
    for defense in (Keep, Dim, Flip, BadStandIn, Noise, Rogue):
        register(defense)
