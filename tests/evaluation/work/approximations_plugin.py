"""A defense with two approximations, each of which sees half of the pixels. Loaded with ``--plugin``."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import torch

from advbench.api import Attack, Budget, Defense, hookimpl, param


def log(line: str) -> None:
    """Appends a line to the file that TWO_LOG names."""
    if os.environ.get("TWO_LOG"):
        with Path(os.environ["TWO_LOG"]).open("a") as file:
            file.write(f"{line}\n")


_CALLS = itertools.count()


@dataclass(frozen=True)
class Two(Defense):
    """Adds noise; its approximations have a gradient at the left or at the right half of the pixels."""

    name = "two"
    self_contained = True
    use: str = param(
        "both",
        choices=("both", "left", "right", "swapped", "dead", "dead-right", "none", "changing", "fewer"),
        help="which approximations",
    )
    sigma: float = param(0.0, min=0, help="standard deviation of the noise")

    @property
    def stochastic(self):
        return self.sigma > 0

    def apply(self, images, rng):
        log(f"apply {rng.purpose}")
        return images + rng.normal(*images.shape[1:], std=self.sigma) if self.sigma else images.clone()

    def left(self, images, output, rng):
        return torch.cat((images[..., :2], images[..., 2:].detach()), dim=3)

    def right(self, images, output, rng):
        return torch.cat((images[..., :2].detach(), images[..., 2:]), dim=3)

    def approximations(self):
        both, call = (self.left, self.right), next(_CALLS)
        dead = (lambda images, output, rng: images * 0,)
        return {
            "both": both,
            "left": both[:1],
            "right": both[1:],
            "swapped": both[::-1],
            "dead": dead,
            "dead-right": (*dead, self.right),
            "none": (),
            "changing": both[: 1 + call % 2],
            "fewer": both[: 2 if call < 3 else 1],
        }[self.use]


@dataclass(frozen=True)
class Walk(Attack):
    """Steps along the gradient's sign, within a budget, or until the image is misclassified."""

    name = "walk"
    self_contained = True
    eps: float | None = param(None, min=0, help="budget; none: a minimal attack")
    step: float = param(0.02, above=0, help="length of a step")
    group: int | None = param(None, min=1, help="group size")

    @property
    def group_size(self):
        return self.group

    def budget(self):
        return None if self.eps is None else Budget("linf", self.eps)

    def minimized_norm(self):
        return "linf"

    def passes(self):
        return 15

    def run(self, model, images, labels, rng):
        log(f"run {len(images)}")
        points, found = images, torch.zeros_like(labels, dtype=torch.bool)
        for _ in range(15):
            leaf = points.clone().requires_grad_()
            logits = model(leaf)
            if self.eps is None:
                found = found | (logits.argmax(dim=1) != labels)
            loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            step = self.step * torch.autograd.grad(loss, leaf)[0].sign() * ~found[:, None, None, None]
            moved = points + step
            if self.eps is not None:
                moved = images + (moved - images).clamp(-self.eps, self.eps)
            points = moved.clamp(0, 1)
        return points if self.eps is not None else torch.where(found[:, None, None, None], points, images)


@dataclass(frozen=True)
class Blind(Attack):
    """Inverts the images without a look at the model."""

    name = "blind"
    self_contained = True
    access = "nothing"

    def run(self, model, images, labels, rng):
        log(f"run {len(images)}")
        return 1 - images


@hookimpl
def register_attacks(register):
    register(Walk)
    register(Blind)


@hookimpl
def register_defenses(register):
    register(Two)
