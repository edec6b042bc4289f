"""A defense that is fitted to data. Loaded beside the toy plugin.

Where FIT_LOG names a file, every fit appends a line to it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from advbench.api import Defense, hookimpl, param


def log(name, data):
    path = os.environ.get("FIT_LOG")
    if path:
        with Path(path).open("a") as file:
            file.write(f"{name} {len(data)} {int(data.ids.min())}\n")


@dataclass(frozen=True)
class Centred(Defense):
    """Subtracts a part of the mean of the images to which it was fitted."""

    name = "centred"
    how: str = param("", choices=("", "in-place"), help="what goes wrong")
    strength: float = param(0.5, help="which part of the mean")

    def fit(self, network, data, rng):
        log(self.name, data)
        places = torch.arange(len(data))
        images = data.images(places)
        return {"mean": images.mean(dim=0), "largest": float(network(images).abs().max().detach())}

    def classify(self, network, images, rng, fitted=None):
        if self.how == "in-place":
            fitted["mean"].zero_()
        return network(images - self.strength * (fitted["mean"] - 0.5)) / fitted["largest"]


@hookimpl
def register_defenses(register):
    register(Centred)
