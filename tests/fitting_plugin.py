"""An attack that is fitted to data: one perturbation for all images. Loaded with ``--plugin`` beside the toy plugin.

Where FIT_LOG names a file, every fit appends a line to it.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from advbench.api import (
    Attack,
    Budget,
    Dataset,
    Defense,
    LabelledImages,
    Model,
    artefact_param,
    for_rows,
    goal_param,
    hookimpl,
    param,
)
from tests.toy_plugin import SHAPE, Toy


@dataclass(frozen=True)
class Universal(Attack):
    """One perturbation for all images, by signed gradient steps on the mean margin of the goal."""

    name = "universal"
    eps: float = param(0.3, min=0, help="L-infinity budget")
    steps: int = param(5, min=1, help="steps of the fit")
    share: float = param(1.0, min=0, max=1, stage="run", help="how much of the perturbation is added")
    how: str = param(
        "", choices=("", "raise", "none", "nan", "change", "hang", "no access", "random"), help="what goes wrong"
    )
    goal: str = goal_param()
    file: str | None = artefact_param()

    @property
    def access(self):
        return "nothing" if self.how == "no access" else "gradients"

    def budget(self):
        return Budget("linf", self.eps)

    def passes(self):
        return 0

    def fit_passes(self, samples):
        return self.steps * samples

    def fit(self, model, data, goal, rng):
        log = os.environ.get("FIT_LOG")
        if log:
            with Path(log).open("a") as file:
                file.write(f"{self.eps} {len(data)} {data.ids.min()} {goal.targeted}\n")
        if self.how == "raise":
            raise RuntimeError("this fit always fails")
        if self.how == "change":
            torch.nn.functional.relu = None
        if self.how == "hang":
            time.sleep(600)
        if self.how == "none":
            return None
        delta = torch.zeros_like(data.images(torch.tensor([0])))
        order = rng.uniform().argsort()
        for _ in range(self.steps):
            delta.requires_grad_(True)
            points = (data.images(order) + delta).clamp(0, 1)
            margin = goal[order].margin(for_rows(model, order)(points)).mean()
            (slope,) = torch.autograd.grad(margin, delta)
            delta = (delta.detach() + self.eps * slope.sign() / 2).clamp(-self.eps, self.eps)
        return {
            "delta": delta * (float("nan") if self.how == "nan" else 1),
            "margin": float(margin.detach()),
            "made by": "universal",
            **({"time": time.monotonic()} if self.how == "random" else {}),
        }

    def craft(self, model, images, goal, rng, fitted):
        if fitted["made by"] != "universal" or not isinstance(fitted["margin"], float):
            raise ValueError("the artefact is not what was fitted")
        delta = fitted["delta"]
        images = (images + self.share * delta).clamp(0, 1)
        delta.zero_()  # which must not reach the next batch
        return images


@dataclass(frozen=True)
class OtherToy(Toy):
    """Other images of the kind; or, of which the run has some."""

    name = "other-toy"
    same: int = param(0, min=0, help="how many images are those of the toy dataset")

    def load(self, sources):
        toy, generator = super().load(sources), torch.Generator().manual_seed(8)
        images = torch.rand(self.size, *SHAPE, generator=generator)
        images[: self.same] = toy.images[: self.same]
        return LabelledImages(images, toy.labels, toy.ids)

    def ids(self):
        return range(1100, 1100 + self.size)


@dataclass(frozen=True)
class TwoWays(Defense):
    """Leaves images as they are; its first approximation has the opposite slope."""

    name = "two-ways"

    def apply(self, images, rng):
        return images.clone()

    def approximations(self):
        return (lambda images, output, rng: 1 - images), (lambda images, output, rng: images)


@hookimpl
def register_defenses(register):
    register(TwoWays)


@dataclass(frozen=True)
class ToyWide(Dataset):
    """Images of another shape."""

    name = "toy-wide"
    image_shape = (1, 4, 8)
    num_classes = 3

    def ids(self):
        return range(40)

    def load(self, sources):
        return LabelledImages(torch.zeros(40, 1, 4, 8), torch.zeros(40, dtype=torch.int64), torch.arange(40))


@dataclass(frozen=True)
class WideModel(Model):
    """A model of such images."""

    name = "wide-model"
    image_shape = (1, 4, 8)
    num_classes = 3

    def load(self):
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(1, 3))

    def weights_digest(self):
        return "0" * 64


@hookimpl
def register_models(register):
    register(WideModel)


@hookimpl
def register_attacks(register):
    register(Universal)


@hookimpl
def register_datasets(register):
    register(OtherToy)
    register(ToyWide)
