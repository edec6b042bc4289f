"""The MNIST classifier of the paper: two convolutions and two fully connected layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from advbench.api import Model, Trainable, TrainingJob, param
from advbench_models.grey_convolution import GreyConvolution
from advbench_models.mnist_training import NOISE, NOISE_RECIPES, RECIPES, train_mnist_classifier
from advbench_models.stored_weights import SHIPPED, StoredWeights

__all__ = ["MnistCnn", "MnistCnnNetwork"]


class MnistCnnNetwork(nn.Module):
    """Maps images in [0, 1], shape (batch, 1, 28, 28), to logits, shape (batch, 10); 431,080 parameters."""

    # Mean and standard deviation of MNIST's training pixels, rounded as usual.
    mean = 0.1307
    std = 0.3081

    def __init__(self) -> None:
        super().__init__()
        # Max-pooling before ReLU gives the same result as after it, for a quarter of the work.
        self.features = nn.Sequential(
            GreyConvolution(20, size=5),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            nn.Conv2d(20, 50, kernel_size=5),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(50 * 4 * 4, 500),
            nn.ReLU(inplace=True),
            nn.Linear(500, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalises and classifies images."""
        features = self.features((images - self.mean) / self.std)
        logits: torch.Tensor = self.classifier(features)
        return logits


@dataclasses.dataclass(frozen=True)
class MnistCnn(StoredWeights, Model, Trainable):
    """Convolutional network for MNIST with two convolutions and two fully connected layers.

    The shipped weights were trained without the images of the dataset ``mnist-5k``.

    Args:
        weights: ``shipped`` for those of the paper's recipe, ``noise`` for those of a network that was trained with
            Gaussian noise of standard deviation 0.5, or a file made by ``advbench train mnist-cnn``.
    """

    name = "mnist-cnn"
    source = "PyTorch's MNIST example (pytorch/examples, mnist/main.py) as it was in 2019"
    image_shape = (1, 28, 28)
    num_classes = 10
    recipes: ClassVar[Mapping[str, str]] = {**RECIPES, **NOISE_RECIPES}
    training_sets: ClassVar[tuple[str, ...]] = ("mnist",)
    trains_behind_defenses = True
    shipped_folder: ClassVar[Path] = Path(__file__).parent / "weights"
    shipped: ClassVar[Mapping[str, str]] = {SHIPPED: "mnist-cnn", NOISE: "mnist-cnn-noise"}

    weights: str = param(
        SHIPPED, help="'shipped', 'noise', or the path of a .safetensors file made by 'advbench train mnist-cnn'"
    )

    def load(self) -> nn.Module:
        """Builds the network with its weights."""
        return self.load_weights_into(MnistCnnNetwork())

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains with the recipe of :mod:`advbench_models.mnist_training`."""
        # The paper's weights are in float32, those of further recipes take less space.
        eight_bit = ["classifier.1.weight"] if job.recipe == NOISE else []
        return train_mnist_classifier(self.name, MnistCnnNetwork, job, eight_bit=eight_bit)
