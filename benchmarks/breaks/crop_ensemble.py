"""Breaks `crop-ensemble`: the mean over many crops, of logits or of probabilities, and the whole image."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from advbench.api import SampleRandom
from advbench_defenses.transformations.crop_ensemble import CropEnsemble
from benchmarks.breaks.replaced import View
from benchmarks.breaks.runner import main


def one_crop(defense: CropEnsemble, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The logits of one crop; their mean over the draws is what is attacked."""
    return defense.attacked(network, images, rng)


def whole_image(
    defense: CropEnsemble, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom
) -> torch.Tensor:
    """The logits of one crop, with the gradient of those of the whole image."""
    whole = network(images)
    with torch.no_grad():
        cropped = defense.attacked(network, images, rng)
    return cropped + whole - whole.detach()


def log_probabilities(
    defense: CropEnsemble, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom
) -> torch.Tensor:
    """The log probabilities of one crop, which weigh confident crops less than logits do."""
    return defense.attacked(network, images, rng).log_softmax(dim=1)


VIEWS: Mapping[str, View] = {"one crop": one_crop, "log probabilities": log_probabilities, "whole image": whole_image}

if __name__ == "__main__":
    main("crop-ensemble", __doc__, views=VIEWS)
