"""The recipe by which MNIST classifiers are trained.

It is the paper's: 10 epochs of plain cross-entropy in batches of 64 by SGD with learning rate 0.01 and
momentum 0.5, both constant. It differs in one thing: images that the dataset ``mnist-5k`` also has are
left out, since all of these come from MNIST's training set and a model must not be scored on images that
it has learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn

from advbench.api import TrainingJob
from advbench_models.classifier_recipe import ClassifierData, DatasetSpecs, train_by_recipe
from advbench_models.classifier_training import ClassifierTraining, in_unit_range

__all__ = ["MNIST", "NOISE", "NOISE_RECIPES", "RECIPES", "train_mnist_classifier"]

PAPER = "paper"
NOISE = "noise"
RECIPES: Mapping[str, str] = {PAPER: "10 epochs at the constant learning rate 0.01, as in the study"}
NOISE_RECIPES: Mapping[str, str] = {NOISE: "the same on images with Gaussian noise of standard deviation 0.5"}
"""For networks behind the defenses ``smoothing`` and ``gaussian-noise`` (Cohen, Rosenfeld and Kolter 2019, Certified
Adversarial Robustness via Randomized Smoothing, section 3.3)."""

EPOCHS = 10
BATCH_SIZE = 64
LEARNING_RATE = 0.01
MOMENTUM = 0.5

MNIST = DatasetSpecs("mnist:split=train", "mnist:split=test", whole=60_000, held_out="mnist-5k")

SIGMA = 0.5
"""Standard deviation of the noise of the recipe ``noise``, for pixels in [0, 1]."""


def train_mnist_classifier(
    name: str,
    build: Callable[[], nn.Module],
    job: TrainingJob,
    *,
    kind: type[ClassifierTraining] = ClassifierTraining,
    settings: Mapping[str, Any] | None = None,
    eight_bit: Collection[str] = (),
) -> Mapping[str, Any]:
    """Trains a classifier by the paper's recipe; see :func:`~advbench_models.classifier_recipe.train_by_recipe`.

    Args:
        name: As for ``train_by_recipe``.
        build: As for ``train_by_recipe``.
        job: As for ``train_by_recipe``.
        kind: The training.
        settings: What else distinguishes the recipe, for the sidecar.
        eight_bit: As for ``train_by_recipe``.
    """
    noisy = {"noise": f"Gaussian, standard deviation {SIGMA}"} if job.recipe == NOISE else {}
    settings = {
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "optimizer": "sgd",
        "learning_rate": LEARNING_RATE,
        "momentum": MOMENTUM,
        "loss": "cross-entropy",
        **noisy,
        **(settings or {}),
    }

    def prepare(network: nn.Module, recipe: Mapping[str, Any], data: ClassifierData) -> ClassifierTraining:
        optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
        augment = _with_noise if noisy else None
        return kind(
            job, recipe, network, optimizer, training_set=data.training_set, test_set=data.test_set, augment=augment
        )

    return train_by_recipe(name, build, job, MNIST, settings=settings, prepare=prepare, eight_bit=eight_bit)


def _with_noise(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The images with noise, which is not clipped, since that of ``smoothing`` is not."""
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    return in_unit_range(images) + SIGMA * noise
