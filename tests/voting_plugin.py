"""Defenses and a model that vote, change the shape of images, and certify; small, with known answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from advbench.api import Certificate, Defense, Model, hookimpl, log_shares, param


@dataclass(frozen=True)
class FlipVote(Defense):
    """Three votes: the image, its mirror image, and the image upside down."""

    name = "flip-vote"
    votes = 3

    def classify(self, network, images, rng, fitted=None):
        views = (images, images.flip(3), images.flip(2))
        votes = [torch.nn.functional.one_hot(network(view).argmax(dim=1), 3) for view in views]
        return log_shares(torch.stack(votes).sum(dim=0))

    def attacked(self, network, images, rng, fitted=None):
        return (network(images) + network(images.flip(3)) + network(images.flip(2))) / 3


def margins(network, images, factor):
    """Certificates of a linear classifier in L-infinity: the margin by the L1 norm of the weights' difference."""
    with torch.enable_grad():
        points = images.detach().clone().requires_grad_()
        logits = network(points)
        gradients = [torch.autograd.grad(logits[:, c].sum(), points, retain_graph=True)[0] for c in range(3)]
    slopes = torch.stack([gradient.flatten(1) for gradient in gradients], dim=1)
    classes = logits.argmax(dim=1)
    rows = torch.arange(len(images))
    gaps = logits[rows, classes][:, None] - logits.detach()
    steps = (slopes[rows, classes][:, None] - slopes).abs().sum(dim=2)
    nearest = (gaps / steps).scatter(1, classes[:, None], float("inf")).amin(dim=1)
    return Certificate(classes, nearest.detach().double() * factor)


@dataclass(frozen=True)
class Margin(Defense):
    """Leaves images as they are, and certifies a linear model exactly; times a factor, which makes it wrong above 1."""

    name = "margin"
    certified_norm = "linf"
    factor: float = param(1.0, above=0, stage="certify", help="factor of the radii")
    how: str = param(
        "right", choices=("right", "raises", "abstains", "foreign"), stage="certify", help="what certify does"
    )

    def classify(self, network, images, rng, fitted=None):
        return network(images)

    def certify(self, network, images, rng, fitted=None):
        if self.how == "raises":
            raise RuntimeError("no certificate today")
        certificate = margins(network, images, self.factor)
        if self.how == "foreign":
            return Certificate(torch.full_like(certificate.classes, 9), certificate.radii)
        if self.how == "abstains":
            return Certificate(torch.full_like(certificate.classes, -1), certificate.radii)
        return certificate


@dataclass(frozen=True)
class Widen(Defense):
    """Repeats every column, so that images are twice as wide."""

    name = "widen"
    differentiable = True

    def apply(self, images, rng):
        return images.repeat_interleave(2, dim=3)

    def output_shape(self, image_shape):
        return (image_shape[0], image_shape[1], 2 * image_shape[2])


class WideLinear(torch.nn.Module):
    """The toy model on every second column."""

    def __init__(self):
        super().__init__()
        weights = torch.randn(3, 16, generator=torch.Generator().manual_seed(3))
        self.weights = torch.nn.Parameter(weights)

    def forward(self, images):
        return (images[..., ::2].flatten(1) - 0.5) @ self.weights.T


@dataclass(frozen=True)
class Certified(Model):
    """The toy model with its own exact certificates."""

    name = "certified"
    image_shape = (1, 4, 4)
    num_classes = 3
    certified_norm = "linf"

    def load(self):
        narrow = WideLinear()
        return torch.nn.Sequential(torch.nn.Upsample(scale_factor=(1, 2)), narrow)

    def weights_digest(self):
        return hashlib.sha256(b"certified").hexdigest()

    def certify(self, network, images, rng):
        return margins(network, images, 1.0)


@dataclass(frozen=True)
class Wide(Model):
    """Takes images twice as wide as those of the toy dataset."""

    name = "wide"
    image_shape = (1, 4, 8)
    num_classes = 3

    def load(self):
        return WideLinear()

    def weights_digest(self):
        return hashlib.sha256(b"wide").hexdigest()


@hookimpl
def register_defenses(register):
    register(FlipVote)
    register(Widen)
    register(Margin)


@hookimpl
def register_models(register):
    register(Wide)
    register(Certified)
