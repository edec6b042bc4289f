"""The recipe by which the Fashion-MNIST classifier is trained.

Adam minimises the cross-entropy for 15 epochs in batches of 128 images, each mirrored with probability ½, while the
learning rate rises to 2e-3 and falls to 0. It takes three minutes on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from advbench.api import TrainingJob, one_cycle, save_weights
from advbench_models.classifier_training import ClassifierTraining, behind_defense, build_seeded

__all__ = ["RECIPES", "mirror", "train_fashion_mnist_classifier"]

ONE_CYCLE = "onecycle"
RECIPES: Mapping[str, str] = {ONE_CYCLE: "15 epochs, the learning rate rising to 2e-3 and falling to 0"}

EPOCHS = 15
BATCH_SIZE = 128
LEARNING_RATE = 2e-3
RISING_SHARE = 0.25

LARGEST_TENSOR = "classifier.1.weight"
"""It has 95 % of the parameters; it is stored in 8 bits."""

TRAINING_SET = "fashion-mnist:split=train"
TEST_SET = "fashion-mnist:split=test"


def train_fashion_mnist_classifier(name: str, build: Callable[[], nn.Module], job: TrainingJob) -> Mapping[str, Any]:
    """Trains a classifier and writes its weights, their sidecar and, during training, a checkpoint.

    Args:
        name: Name of the component.
        build: Builds the network; it draws initial weights from torch's default generator.
        job: Options of the command line.

    Returns:
        The content of the sidecar; ``test_accuracy`` is that on the whole test set.

    Raises:
        UsageError: The checkpoint belongs to another recipe, seed or dataset.
    """
    original_set = job.load_dataset(TRAINING_SET)
    training_set, test_set = job.defend(original_set), job.defend(job.load_dataset(TEST_SET))
    recipe: dict[str, Any] = {
        "component": name,
        "recipe": job.recipe,
        "epochs": EPOCHS if job.epochs is None else job.epochs,
        "batch_size": BATCH_SIZE,
        "optimizer": "adam",
        "learning_rate": LEARNING_RATE,
        "schedule": f"one cycle, rising for {RISING_SHARE:.0%} of the steps",
        "augmentation": "random mirror",
        "loss": "cross-entropy",
        "seed": job.seed,
        "data_digest": original_set.digest(),
        **behind_defense(job, training_set),
    }
    network = build_seeded(build, job).to(memory_format=torch.channels_last)
    training = ClassifierTraining(
        job,
        recipe,
        network,
        torch.optim.Adam(network.parameters(), lr=LEARNING_RATE),
        training_set=training_set,
        test_set=test_set,
        augment=mirror,
        schedule=lambda step, steps: one_cycle(step, steps, LEARNING_RATE, RISING_SHARE),
    )
    training.run()
    figures = training.round_to_8_bits([LARGEST_TENSOR])
    provenance = {
        **training.provenance(),
        "training_set": TRAINING_SET,
        "training_samples": len(training_set),
        "test_set": TEST_SET,
        "test_accuracy": figures["accuracy"],
    }
    digest = save_weights(job.output, network.state_dict(), provenance, eight_bit=[LARGEST_TENSOR])
    job.checkpoint.unlink(missing_ok=True)
    return {"sha256": digest, **provenance}


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
