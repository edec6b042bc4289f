"""An MNIST classifier with certificates, trained on interval bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from advbench.api import Certificate, Model, Trainable, TrainingJob, param, widest_float
from advbench_models.interval_bounds import margins_within
from advbench_models.interval_training import RECIPES, train_with_interval_bounds
from advbench_models.mnist_cnn_robust import MnistCnnRobustNetwork
from advbench_models.stored_weights import SHIPPED, StoredWeights

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["IntervalBounds"]

_LARGEST_RADIUS = 0.5
_HALVINGS = 12
_SLACK = 1e-4
"""Least lead of a certified class, so that rounding in float32 cannot change the class."""


@dataclasses.dataclass(frozen=True)
class IntervalBounds(StoredWeights, Model, Trainable):
    """Small convolutional network for MNIST, trained on interval bounds for L∞ 0.3, with certificates.

    The certified radius is the largest one up to 0.5, to 1/8192, for which interval bounds show that no other class
    gets a larger logit. The shipped weights were trained without the images of the dataset ``mnist-5k``.
    """

    name = "ibp"
    source = (
        "Gowal et al. 2018, On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models; "
        "the network of Wong, Rice and Kolter 2020, Fast is better than free, for MNIST"
    )
    image_shape = (1, 28, 28)
    num_classes = 10
    certified_norm = "linf"
    recipes: ClassVar[Mapping[str, str]] = RECIPES
    training_sets: ClassVar[tuple[str, ...]] = ("mnist",)
    shipped_folder: ClassVar[Path] = Path(__file__).parent / "weights"

    weights: str = param(SHIPPED, help="'shipped', or the path of a .safetensors file made by 'advbench train ibp'")

    def load(self) -> nn.Module:
        """Builds the network with its weights."""
        return self.load_weights_into(MnistCnnRobustNetwork())

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains with the recipe of :mod:`advbench_models.interval_training`."""
        return train_with_interval_bounds(self.name, MnistCnnRobustNetwork, job)

    def certify(self, network: nn.Module, images: torch.Tensor, rng: SampleRandom) -> Certificate:
        """Finds the largest certified radius of each image by bisection; interval bounds only widen with the radius."""
        del rng
        device = images.device
        exactly = device if widest_float(device) == torch.float64 else torch.device("cpu")
        classes = network(images).argmax(dim=1).to(exactly)
        exact = self.load().double().to(exactly)
        layers = list(exact.layers)  # type: ignore[arg-type]  # the Sequential of MnistCnnRobustNetwork
        images = images.to(exactly).double()
        low = torch.zeros(len(images), dtype=torch.float64, device=exactly)
        high = torch.full_like(low, _LARGEST_RADIUS)
        certified = margins_within(layers, images, classes, low) > _SLACK
        low = torch.where(margins_within(layers, images, classes, high) > _SLACK, high, low)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            holds = margins_within(layers, images, classes, middle) > _SLACK
            low, high = torch.where(holds, middle, low), torch.where(holds, high, middle)
        return Certificate(torch.where(certified, classes, -1).to(device), low.to(device, widest_float(device)))
