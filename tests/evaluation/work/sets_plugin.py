"""A model that looks at one corner, and attacks with perturbation sets. Loaded with ``--plugin`` beside the toys."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from advbench.api import (
    Attack,
    Corruption,
    Crafted,
    Dataset,
    Defense,
    Geometric,
    LabelledImages,
    Model,
    Patch,
    goal_param,
    hookimpl,
    param,
    rotate_shift,
)

API_VERSION = 2
SHAPE = (1, 8, 8)


@dataclass(frozen=True)
class Dark(Dataset):
    """Dark images; all have the label 0 but every fifth, which is bright in the corner and has the label 1."""

    name = "dark"
    image_shape = SHAPE
    num_classes = 3

    def ids(self):
        return range(100, 120)

    def load(self, sources):
        images = 0.2 * torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(1))
        images[::5, :, :2, :2] = 0.9
        labels = torch.tensor([int(not index % 5) for index in range(20)])
        return LabelledImages(images, labels, torch.tensor(self.ids()))


class Corner(torch.nn.Module):
    """Class 1 if the upper left corner of 2×2 pixels is brighter than the middle grey, else class 0; never class 2."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        brightness = images[:, 0, :2, :2].flatten(1).mean(dim=1)
        return torch.stack((0.5 - brightness, brightness - 0.5, -1 - 0 * brightness), dim=1) * self.weight


@dataclass(frozen=True)
class LooksAtCorner(Model):
    """Looks at one corner."""

    name = "corner"
    self_contained = True
    image_shape = SHAPE
    num_classes = 3

    def load(self):
        return Corner()

    def weights_digest(self):
        return "0" * 64


@dataclass(frozen=True)
class WhiteSquare(Attack):
    """A white square at a fixed place."""

    name = "white-square"
    self_contained = True
    access = "nothing"
    side: int = param(2, min=1, help="side of the square in pixels")
    row: int = param(0, min=0, help="its first row")
    column: int = param(0, min=0, help="its first column")
    how: str = param("right", choices=("right", "outside", "no-note", "unmasked"), help="which rule to break")
    goal: str = goal_param()

    def perturbation(self):
        return Patch(area=self.side**2 / 64)

    def misfit(self, image_shape, num_classes):
        height, width = image_shape[1:]
        return f"side={self.side}: the images have {height}×{width} pixels" if self.side > min(height, width) else ""

    def craft(self, model, images, goal, rng, fitted=None):
        mask = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool)
        mask[:, :, self.row : self.row + self.side, self.column : self.column + self.side] = True
        patched = torch.where(mask, 1.0, images)
        if self.how == "outside":
            patched[:, :, 7, 7] = 0.5
        if self.how == "unmasked":
            mask[:, :, 4:] = True
        return patched if self.how == "no-note" else Crafted(patched, {"mask": mask})


@dataclass(frozen=True)
class SteepestSquare(Attack):
    """A square of 2×2 pixels, white or black, where the gradient is largest."""

    name = "steepest-square"
    self_contained = True
    goal: str = goal_param()

    def perturbation(self):
        return Patch(area=4 / 64)

    def craft(self, model, images, goal, rng, fitted=None):
        with torch.enable_grad():
            points = images.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(goal.margin(model(points)).sum(), points)
        blocks = torch.nn.functional.avg_pool2d(gradient, 2).flatten(1)
        chosen = torch.zeros_like(blocks).scatter(1, blocks.abs().argmax(dim=1, keepdim=True), 1).reshape(-1, 1, 4, 4)
        mask = chosen.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3).bool()
        return Crafted(torch.where(mask, (gradient > 0).float(), images), {"mask": mask})


@dataclass(frozen=True)
class Turns(Attack):
    """Rotates by a fixed angle."""

    name = "turns"
    self_contained = True
    access = "nothing"
    angle: float = param(10.0, help="degrees")
    how: str = param("right", choices=("right", "beyond", "rendered"), help="which rule to break")

    def perturbation(self):
        return Geometric(max_angle=abs(self.angle) / (2 if self.how == "beyond" else 1), max_shift=1)

    def craft(self, model, images, goal, rng, fitted=None):
        angle, none = torch.full((len(images),), self.angle), torch.zeros(len(images))
        turned = rotate_shift(images, angle, none, none)
        return Crafted(turned * (0.9 if self.how == "rendered" else 1), {"angle": angle, "dx": none, "dy": none})


@dataclass(frozen=True)
class Brighter(Attack):
    """Adds brightness, at 8 bits."""

    name = "brighter"
    self_contained = True
    access = "nothing"
    severity: int = param(1, min=1, max=5, help="from 1 to 5")
    how: str = param("right", choices=("right", "bits"), help="which rule to break")

    def perturbation(self):
        return Corruption(self.severity)

    def craft(self, model, images, goal, rng, fitted=None):
        brighter = (images + self.severity / 10).clamp(0, 1)
        return brighter if self.how == "bits" else (brighter * 255).round() / 255


@dataclass(frozen=True)
class Contradiction(Attack):
    """A corruption that uses gradients."""

    name = "contradiction"

    def perturbation(self):
        return Corruption(1)

    def craft(self, model, images, goal, rng, fitted=None):
        return (images * 255).round() / 255


@dataclass(frozen=True)
class TwoWays(Defense):
    """Mirrors images; the gradient of its first approximation is that of the wrong side."""

    name = "two-ways"
    self_contained = True

    def apply(self, images, rng):
        return images.flip(3)

    def approximations(self):
        return (lambda images, output, rng: images, lambda images, output, rng: images.flip(3))


@hookimpl
def register_datasets(register):
    register(Dark)


@hookimpl
def register_models(register):
    register(LooksAtCorner)


@hookimpl
def register_attacks(register):
    for attack in (WhiteSquare, SteepestSquare, Turns, Brighter, Contradiction):
        register(attack)


@hookimpl
def register_defenses(register):
    register(TwoWays)
