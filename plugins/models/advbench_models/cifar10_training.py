"""Training recipes of CIFAR-10 classifiers.

Both use stochastic gradient descent on the cross-entropy with momentum 0.9, weight decay 5e-4 and batches of 128
images. Each image is padded by 4 black pixels, cropped at random and mirrored with probability ½. The recipes differ in
learning rate and number of epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from advbench.api import TrainingJob, bfloat16_helps, one_cycle, save_weights
from advbench_models.classifier_training import ClassifierTraining, behind_defense, build_seeded

__all__ = ["RECIPES", "crop_and_mirror", "train_cifar10_classifier"]

PAPER = "paper"
ONE_CYCLE = "onecycle"
RECIPES: Mapping[str, str] = {
    PAPER: "150 epochs at the constant learning rate 0.1, as in the study; for an accelerator",
    ONE_CYCLE: "15 epochs, the learning rate rising to 0.2 and falling to 0; for machines without an accelerator",
}

EPOCHS = {PAPER: 150, ONE_CYCLE: 15}
LEARNING_RATE = {PAPER: 0.1, ONE_CYCLE: 0.2}
BATCH_SIZE = 128
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
PADDING = 4
RISING_SHARE = 0.25

TRAINING_SET = "cifar10:split=train"
TEST_SET = "cifar10:split=test"


def train_cifar10_classifier(name: str, build: Callable[[], nn.Module], job: TrainingJob) -> Mapping[str, Any]:
    """Trains a classifier and writes its weights, their sidecar and, during training, a checkpoint.

    Args:
        name: Name of the component.
        build: Builds the network; it draws initial weights from torch's default generator.
        job: Options of the command line.

    Returns:
        The content of the sidecar; ``test_accuracy`` is that of the float32 network on the whole test set.

    Raises:
        UsageError: The checkpoint belongs to another recipe, seed or dataset.
    """
    original_set = job.load_dataset(TRAINING_SET)
    training_set, test_set = job.defend(original_set), job.defend(job.load_dataset(TEST_SET))
    one_cycle_recipe = job.recipe == ONE_CYCLE
    autocast = torch.bfloat16 if bfloat16_helps(job.device) else None
    recipe: dict[str, Any] = {
        "component": name,
        "recipe": job.recipe,
        "epochs": EPOCHS[job.recipe] if job.epochs is None else job.epochs,
        "batch_size": BATCH_SIZE,
        "optimizer": "sgd",
        "learning_rate": LEARNING_RATE[job.recipe],
        "schedule": f"one cycle, rising for {RISING_SHARE:.0%} of the steps" if one_cycle_recipe else "constant",
        "momentum": MOMENTUM,
        "nesterov": one_cycle_recipe,
        "weight_decay": WEIGHT_DECAY,
        "augmentation": f"random crop after padding by {PADDING}, random mirror",
        "loss": "cross-entropy",
        "precision": "float32" if autocast is None else "bfloat16",
        "seed": job.seed,
        "data_digest": original_set.digest(),
        **behind_defense(job, training_set),
    }
    network = build_seeded(build, job).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=LEARNING_RATE[job.recipe],
        momentum=MOMENTUM,
        nesterov=one_cycle_recipe,
        weight_decay=WEIGHT_DECAY,
    )
    training = ClassifierTraining(
        job,
        recipe,
        network,
        optimizer,
        training_set=training_set,
        test_set=test_set,
        augment=crop_and_mirror,
        schedule=(lambda step, steps: one_cycle(step, steps, LEARNING_RATE[ONE_CYCLE], RISING_SHARE))
        if one_cycle_recipe
        else None,
        autocast=autocast,
    )
    training.run()
    training.autocast = None  # the shipped network runs in float32, so it is evaluated in float32
    provenance = {
        **training.provenance(),
        "training_set": TRAINING_SET,
        "training_samples": len(training_set),
        "test_set": TEST_SET,
        "test_accuracy": training.accuracy(),
    }
    digest = save_weights(job.output, network.state_dict(), provenance)
    job.checkpoint.unlink(missing_ok=True)
    return {"sha256": digest, **provenance}


def crop_and_mirror(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shifts each image by up to 4 pixels in each direction, filling with black, and mirrors half of them horizontally.

    Args:
        images: Any dtype, shape (batch, channels, height, width).
        generator: Source of the random numbers; a CPU generator, whatever the images' device.

    Returns:
        Images of the same dtype and shape.
    """
    count, _, height, width = images.shape
    shifts = torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    rows = torch.arange(height) + shifts[0][:, None]
    columns = torch.arange(width) + shifts[1][:, None]
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = functional.pad(images, [PADDING] * 4).permute(0, 2, 3, 1)
    index = torch.arange(count)[:, None, None].to(images.device)
    cropped = padded[index, rows[:, :, None].to(images.device), columns[:, None, :].to(images.device)]
    return cropped.permute(0, 3, 1, 2)
