"""The recipes by which CIFAR-10 classifiers are trained.

Both are stochastic gradient descent on cross-entropy with momentum 0.9, weight decay 5e-4 and
batches of 128 images, each cropped at random out of itself with 4 black pixels around it, and mirrored half
of the time. They differ in the learning rate and in how long they take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from advbench.api import TrainingJob, bfloat16_helps, one_cycle, save_weights
from advbench_models.classifier_training import ClassifierTraining, build_seeded

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
RISE = 0.25

TRAINING_SET = "cifar10:split=train"
TEST_SET = "cifar10:split=test"


def train_cifar10_classifier(name: str, build: Callable[[], nn.Module], job: TrainingJob) -> Mapping[str, Any]:
    """Trains a classifier and writes its weights, their sidecar and, while it lasts, a checkpoint.

    Args:
        name: The component that is trained.
        build: Makes the network; its initial weights are drawn from torch's own generator.
        job: What the command line asks for.

    Returns:
        What the sidecar says; its ``test_accuracy`` is that of the float32 network on the whole test set.

    Raises:
        UsageError: The checkpoint belongs to another recipe, seed or data.
    """
    training_set, test_set = job.load_dataset(TRAINING_SET), job.load_dataset(TEST_SET)
    one_cycle_recipe = job.recipe == ONE_CYCLE
    autocast = torch.bfloat16 if bfloat16_helps(job.device) else None
    recipe: dict[str, Any] = {
        "component": name,
        "recipe": job.recipe,
        "epochs": EPOCHS[job.recipe] if job.epochs is None else job.epochs,
        "batch_size": BATCH_SIZE,
        "optimizer": "sgd",
        "learning_rate": LEARNING_RATE[job.recipe],
        "schedule": f"one cycle, rising for {RISE:.0%} of the steps" if one_cycle_recipe else "constant",
        "momentum": MOMENTUM,
        "nesterov": one_cycle_recipe,
        "weight_decay": WEIGHT_DECAY,
        "augmentation": f"random crop after padding by {PADDING}, random mirror",
        "loss": "cross-entropy",
        "precision": "float32" if autocast is None else "bfloat16",
        "seed": job.seed,
        "data_digest": training_set.digest(),
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
        schedule=(lambda step, steps: one_cycle(step, steps, LEARNING_RATE[ONE_CYCLE], RISE))
        if one_cycle_recipe
        else None,
        autocast=autocast,
    )
    training.run()
    training.autocast = None  # what is shipped is used in float32, so that is what is measured
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
    """Each image moved by up to 4 pixels each way, black coming in, and half of them mirrored left to right.

    Args:
        images: Any type, shape (batch, channels, height, width).
        generator: Where the random numbers come from; a generator of the CPU, whatever the images' device.

    Returns:
        As the images.
    """
    count, _, height, width = images.shape
    shifts = torch.randint(0, 2 * PADDING + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    rows = torch.arange(height) + shifts[0][:, None]
    columns = torch.arange(width) + shifts[1][:, None]
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    padded = functional.pad(images, [PADDING] * 4).permute(0, 2, 3, 1)
    which = torch.arange(count)[:, None, None].to(images.device)
    cropped = padded[which, rows[:, :, None].to(images.device), columns[:, None, :].to(images.device)]
    return cropped.permute(0, 3, 1, 2)
