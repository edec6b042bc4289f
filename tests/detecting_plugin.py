"""A detector with a known suspicion, and a defense that is fitted to data. Loaded beside the toy plugin.

Where FIT_LOG names a file, every fit appends a line to it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from advbench.api import Attack, Budget, Certificate, Corruption, Defense, Detector, artefact_param, hookimpl, param


def log(name, data):
    path = os.environ.get("FIT_LOG")
    if path:
        with Path(path).open("a") as file:
            file.write(f"{name} {len(data)} {int(data.ids.min())}\n")


@dataclass(frozen=True)
class Brightness(Detector):
    """The suspicion of an image is its mean."""

    name = "brightness"
    how: str = param(
        "", choices=("", "raise", "shape", "nan", "none", "in-place", "batch", "global", "bool"), help="what goes wrong"
    )

    def suspicion(self, network, images, rng):
        if self.how == "raise":
            raise RuntimeError("this suspicion always fails")
        means = images.mean(dim=(1, 2, 3))
        if self.how == "bool":
            return means > 0.5
        if self.how == "batch":
            return means - means.mean()
        if self.how == "global":
            return means + torch.rand(len(means))
        if self.how == "shape":
            return means[:, None]
        return means * float("nan") if self.how == "nan" else means

    def fit(self, network, data, rng):
        log(self.name, data)
        return None if self.how == "none" else super().fit(network, data, rng)


@dataclass(frozen=True)
class Centred(Defense):
    """Subtracts a part of the mean of the images to which it was fitted."""

    name = "centred"
    how: str = param("", choices=("", "in-place"), help="what goes wrong")
    strength: float = param(0.5, help="which part of the mean")
    file: str | None = artefact_param()

    def fit(self, network, data, rng):
        log(self.name, data)
        places = torch.arange(len(data))
        images = data.images(places)
        return {"mean": images.mean(dim=0), "largest": float(network(images).abs().max().detach())}

    def classify(self, network, images, rng, fitted=None):
        if self.how == "in-place":
            fitted["mean"].zero_()
        return network(images - self.strength * (fitted["mean"] - 0.5)) / fitted["largest"]


@dataclass(frozen=True)
class CertifiedCentred(Centred):
    """The same; its radii are what it has fitted, so that tests see them."""

    name = "certified-centred"
    certified_norm = "linf"

    def certify(self, network, images, rng, fitted=None):
        radii = torch.full((len(images),), 1e-6 * fitted["largest"], dtype=torch.float64)
        return Certificate(self.classify(network, images, rng, fitted).argmax(dim=1), radii)


@dataclass(frozen=True)
class Brighten(Attack):
    """Adds the same number to every pixel: a perturbation that the toy model hardly notices and the detector does."""

    name = "brighten"
    eps: float = param(0.3, min=0, help="L-infinity budget")

    def budget(self):
        return Budget("linf", self.eps)

    def run(self, model, images, labels, rng):
        return (images + self.eps).clamp(0, 1)


@dataclass(frozen=True)
class Dawn(Attack):
    """The same as a corruption, in 8 bits."""

    name = "dawn"
    access = "nothing"

    def perturbation(self):
        return Corruption(3)

    def craft(self, model, images, goal, rng, fitted=None):
        return ((images + 0.3).clamp(0, 1) * 255).round() / 255


@hookimpl
def register_defenses(register):
    register(Brightness)
    register(Centred)
    register(CertifiedCentred)


@hookimpl
def register_attacks(register):
    register(Brighten)
    register(Dawn)
