"""An MNIST classifier trained to be robust within L∞ 0.3."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from advbench.api import Model, Trainable, TrainingJob, param
from advbench_models import trades_training
from advbench_models.mnist_adversarial_training import RECIPES, train_robust_mnist_classifier
from advbench_models.stored_weights import SHIPPED, StoredWeights
from advbench_models.trades_training import TRADES, TradesTraining

__all__ = ["MnistCnnRobust", "MnistCnnRobustNetwork"]


class MnistCnnRobustNetwork(nn.Module):
    """Maps images in [0, 1], shape (batch, 1, 28, 28), to logits, shape (batch, 10); 166,406 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, kernel_size=4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 100),
            nn.ReLU(inplace=True),
            nn.Linear(100, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Classifies images, without normalisation."""
        logits: torch.Tensor = self.layers(images)
        return logits


@dataclasses.dataclass(frozen=True)
class MnistCnnRobust(StoredWeights, Model, Trainable):
    """Small convolutional network for MNIST, adversarially trained for L∞ 0.3.

    The shipped weights were trained without the images of the dataset ``mnist-5k``.

    Args:
        weights: ``shipped`` for weights trained on adversarial images (Madry et al.), ``trades`` for those of TRADES,
            or a file made by ``advbench train mnist-cnn-robust``.
    """

    name = "mnist-cnn-robust"
    source = (
        "Madry, Makelov, Schmidt, Tsipras and Vladu 2018, Towards Deep Learning Models Resistant to Adversarial "
        "Attacks; Zhang et al. 2019, Theoretically Principled Trade-off between Robustness and Accuracy (TRADES); the "
        "network of Wong, Rice and Kolter 2020, Fast is better than free, for MNIST"
    )
    image_shape = (1, 28, 28)
    num_classes = 10
    recipes: ClassVar[Mapping[str, str]] = {**RECIPES, **trades_training.RECIPES}
    training_sets: ClassVar[tuple[str, ...]] = ("mnist",)
    shipped_folder: ClassVar[Path] = Path(__file__).parent / "weights"

    shipped: ClassVar[Mapping[str, str]] = {SHIPPED: "mnist-cnn-robust", TRADES: "mnist-cnn-robust-trades"}

    weights: str = param(
        SHIPPED,
        help="'shipped', 'trades', or the path of a .safetensors file made by 'advbench train mnist-cnn-robust'",
    )

    def load(self) -> nn.Module:
        """Builds the network with its weights."""
        return self.load_weights_into(MnistCnnRobustNetwork())

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains with a recipe of :mod:`~advbench_models.mnist_adversarial_training` or its variant TRADES."""
        variant: dict[str, Any] = {}
        if job.recipe == TRADES:
            variant = {
                "kind": TradesTraining,
                "loss": trades_training.LOSS,
                "attack": trades_training.ATTACK,
                "eight_bit": [trades_training.LARGEST_TENSOR],
            }
        return train_robust_mnist_classifier(self.name, MnistCnnRobustNetwork, job, **variant)
