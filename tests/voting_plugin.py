"""Defenses and a model that vote, change the shape of images, and certify; small, with known answers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch

from advbench.api import Defense, Model, hookimpl, log_shares


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


@hookimpl
def register_models(register):
    register(Wide)
