"""The recipe by which the Fashion-MNIST classifier is trained.

Adam minimises the cross-entropy for 15 epochs in batches of 128 images, each mirrored with probability ½, while the
learning rate rises to 2e-3 and falls to 0. It takes three minutes on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from advbench.api import TrainingJob, one_cycle
from advbench_models.classifier_recipe import ClassifierData, DatasetSpecs, train_by_recipe
from advbench_models.classifier_training import ClassifierTraining

__all__ = ["RECIPES", "mirror", "train_fashion_mnist_classifier"]

ONE_CYCLE = "onecycle"
RECIPES: Mapping[str, str] = {ONE_CYCLE: "15 epochs, the learning rate rising to 2e-3 and falling to 0"}

EPOCHS = 15
BATCH_SIZE = 128
LEARNING_RATE = 2e-3
RISING_SHARE = 0.25

LARGEST_TENSOR = "classifier.1.weight"
"""It has 95 % of the parameters; it is stored in 8 bits."""

FASHION_MNIST = DatasetSpecs("fashion-mnist:split=train", "fashion-mnist:split=test", whole=60_000)


def train_fashion_mnist_classifier(name: str, build: Callable[[], nn.Module], job: TrainingJob) -> Mapping[str, Any]:
    """Trains a classifier; see :func:`~advbench_models.classifier_recipe.train_by_recipe`."""
    settings = {
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "optimizer": "adam",
        "learning_rate": LEARNING_RATE,
        "schedule": f"one cycle, rising for {RISING_SHARE:.0%} of the steps",
        "augmentation": "random mirror",
        "loss": "cross-entropy",
    }

    def prepare(network: nn.Module, recipe: Mapping[str, Any], data: ClassifierData) -> ClassifierTraining:
        network = network.to(memory_format=torch.channels_last)
        return ClassifierTraining(
            job,
            recipe,
            network,
            torch.optim.Adam(network.parameters(), lr=LEARNING_RATE),
            training_set=data.training_set,
            test_set=data.test_set,
            augment=mirror,
            schedule=lambda step, steps: one_cycle(step, steps, LEARNING_RATE, RISING_SHARE),
        )

    return train_by_recipe(
        name, build, job, FASHION_MNIST, settings=settings, prepare=prepare, eight_bit=[LARGEST_TENSOR]
    )


def mirror(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirrors half of the images horizontally.

    Args:
        images: Any dtype, shape (batch, channels, height, width).
        generator: Source of the random numbers; a CPU generator, whatever the images' device.

    Returns:
        Images of the same dtype and shape.
    """
    mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)
