"""The recipe by which MNIST classifiers are trained.

It is the paper's: 10 epochs of plain cross-entropy in batches of 64 by SGD with learning rate 0.01 and
momentum 0.5, both constant. It differs in one thing: images that the dataset ``mnist-5k`` also has are
left out, since all of these come from MNIST's training set and a model must not be scored on images that
it has learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from advbench.api import DataError, LabelledImages, TrainingJob, save_weights
from advbench_models.classifier_training import ClassifierTraining, behind_defense, build_seeded, in_unit_range

__all__ = [
    "NOISE",
    "NOISE_RECIPES",
    "RECIPES",
    "MnistData",
    "train_mnist_classifier",
    "train_on_mnist",
    "without_held_out",
]

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

TRAINING_SET = "mnist:split=train"
TEST_SET = "mnist:split=test"
HELD_OUT = "mnist-5k"

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
    """Trains a classifier by the paper's recipe; see :func:`train_on_mnist`.

    Args:
        name: As for ``train_on_mnist``.
        build: As for ``train_on_mnist``.
        job: As for ``train_on_mnist``.
        kind: The training.
        settings: What else distinguishes the recipe, for the sidecar.
        eight_bit: As for ``train_on_mnist``.
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

    def prepare(network: nn.Module, recipe: Mapping[str, Any], data: MnistData) -> ClassifierTraining:
        optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
        augment = _with_noise if noisy else None
        return kind(
            job, recipe, network, optimizer, training_set=data.training_set, test_set=data.test_set, augment=augment
        )

    return train_on_mnist(name, build, job, settings=settings, prepare=prepare, eight_bit=eight_bit)


def _with_noise(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The images with noise, which is not clipped, since that of ``smoothing`` is not."""
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    return in_unit_range(images) + SIGMA * noise


class MnistData(NamedTuple):
    """What a network learns, and what its accuracy is measured on."""

    training_set: LabelledImages
    test_set: LabelledImages


Prepare = Callable[[nn.Module, Mapping[str, Any], MnistData], ClassifierTraining]
"""Makes the training of a network, given the recipe's description and the data; the network is on the job's device."""


def train_on_mnist(
    name: str,
    build: Callable[[], nn.Module],
    job: TrainingJob,
    *,
    settings: Mapping[str, Any],
    prepare: Prepare,
    describe: Callable[[Mapping[str, float]], Mapping[str, Any]] | None = None,
    eight_bit: Collection[str] = (),
) -> Mapping[str, Any]:
    """Trains a classifier and writes its weights, their sidecar and, while it lasts, a checkpoint.

    On the CPU, the same seed, data and number of threads give the same weights, whether or not the training
    was interrupted.

    Args:
        name: The component that is trained.
        build: Makes the network; its initial weights are drawn from torch's own generator.
        job: What the command line asks for.
        settings: What distinguishes the recipe, for the sidecar, with its ``epochs`` and ``batch_size``.
        prepare: Makes the training.
        describe: What the sidecar says of the figures of the last evaluation, beside the accuracy.
        eight_bit: Names of the tensors to store in 8 bits; the figures are then those of the network as stored.

    Returns:
        What the sidecar says.

    Raises:
        DataError: The training set does not hold the images to be held out.
        UsageError: The checkpoint belongs to another recipe, seed or data.
    """
    training_set = without_held_out(job.load_dataset(TRAINING_SET), job.load_dataset(HELD_OUT))
    recipe: dict[str, Any] = {"component": name, "recipe": job.recipe, **settings}
    if job.epochs is not None:
        recipe["epochs"] = job.epochs
    data = MnistData(job.defend(training_set), job.defend(job.load_dataset(TEST_SET)))
    recipe |= {"seed": job.seed, "data_digest": training_set.digest(), **behind_defense(job, data.training_set)}
    training = prepare(build_seeded(build, job), recipe, data)
    figures = training.run()
    if eight_bit:
        figures = {**figures, **training.round_to_8_bits(eight_bit)}
    provenance = {
        **training.provenance(),
        "training_set": f"{TRAINING_SET} without the images of {HELD_OUT}",
        "training_samples": len(training_set),
        "test_set": TEST_SET,
        "test_accuracy": figures["accuracy"],
        **({} if describe is None else describe(figures)),
    }
    digest = save_weights(job.output, training.network.state_dict(), provenance, eight_bit=eight_bit)
    job.checkpoint.unlink(missing_ok=True)
    return {"sha256": digest, **provenance}


def without_held_out(training_set: LabelledImages, held_out: LabelledImages) -> LabelledImages:
    """The training set without the images that are also held out, found by their pixels.

    Raises:
        DataError: MNIST's whole training set does not hold every held-out image exactly once.
    """
    kept = training_set.without(held_out)
    removed = len(training_set) - len(kept)
    if len(training_set) == 60_000 and removed != len(held_out):
        raise DataError(
            f"{removed} images of {TRAINING_SET} are in {HELD_OUT}, which has {len(held_out)}: "
            "the two do not belong together; run 'advbench doctor'"
        )
    return kept
