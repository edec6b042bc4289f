"""Stochastic models for tests: the toy plugin's classifier with noise on its logits. Loaded with ``--plugin``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Model, hookimpl, param

HOW = ("rng", "nothing", "torch", "batch", "none", "undeclared")


class Network(torch.nn.Module):
    """Adds noise to the logits of a linear classifier: from the images' streams, or against the contract."""

    def __init__(self, noise, how):
        super().__init__()
        weights = torch.randn(3, 16, generator=torch.Generator().manual_seed(3))
        self.weights = torch.nn.Parameter(weights)
        self.noise, self.how = noise, how

    def forward(self, images, rng):
        logits = (images.flatten(1) - 0.5) @ self.weights.T
        noise = {
            "nothing": lambda: torch.zeros_like(logits),
            "torch": lambda: torch.randn_like(logits),
            "batch": lambda: rng.normal(3).mean(dim=0),
        }.get(self.how, lambda: rng.normal(3))()
        return logits + self.noise * noise


class Deterministic(Network):
    """Takes no random streams."""

    def forward(self, images):
        return (images.flatten(1) - 0.5) @ self.weights.T


@dataclass(frozen=True)
class Noisy(Model):
    """A linear classifier with noise on its logits."""

    name: ClassVar[str] = "noisy"
    self_contained: ClassVar[bool] = True
    image_shape: ClassVar[tuple[int, int, int]] = (1, 4, 4)
    num_classes: ClassVar[int] = 3
    noise: float = param(1.0, min=0, help="standard deviation of the noise")
    how: str = param("rng", choices=HOW, help="where it takes its random numbers from")

    @property
    def stochastic(self):
        return self.how != "undeclared"

    def load(self):
        return (Deterministic if self.how == "none" else Network)(self.noise, self.how)

    def weights_digest(self):
        return hashlib.sha256(b"fixed").hexdigest()


@hookimpl
def register_models(register):
    register(Noisy)
