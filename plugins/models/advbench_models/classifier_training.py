"""What the recipes of all classifiers have in common: cross-entropy on batches, accuracy on the test set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from advbench.api import LabelledImages, TrainingJob, TrainingLoop

__all__ = ["ClassifierTraining", "build_seeded", "in_unit_range"]

TEST_BATCH_SIZE = 500

Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
Schedule = Callable[[int, int], float]


def build_seeded(build: Callable[[], nn.Module], job: TrainingJob) -> nn.Module:
    """Makes a network on the job's device whose initial weights follow from the job's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(job.seed)
        network = build()
    return network.to(job.device)


class ClassifierTraining(TrainingLoop):
    """Trains a classifier on labelled images.

    Args:
        job: What the command line asks for.
        recipe: As :class:`advbench.api.TrainingLoop` takes it.
        network: Images in [0, 1] to logits, on the job's device.
        optimizer: Updates its parameters.
        training_set: What it learns.
        test_set: What its accuracy is measured on after each epoch; nothing is chosen by it.
        augment: Makes variants of a batch of images, of the training set's type and shape; None for none.
        schedule: (step, steps) to the learning rate; None where the optimiser's is constant.
        autocast: The type to compute in where torch holds it safe, such as bfloat16; None for float32.
    """

    def __init__(
        self,
        job: TrainingJob,
        recipe: Mapping[str, Any],
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        training_set: LabelledImages,
        test_set: LabelledImages,
        augment: Augment | None = None,
        schedule: Schedule | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__(job, recipe, len(training_set), network, optimizer)
        self.images, self.labels = training_set.images.to(job.device), training_set.labels.to(job.device)
        self.test_images, self.test_labels = test_set.images.to(job.device), test_set.labels.to(job.device)
        self.augment = augment
        self.schedule = schedule
        self.autocast = autocast

    def step(self, number: int, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """One step of gradient descent on the batch's mean cross-entropy."""
        if self.schedule is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule(number, self.steps)
        loss = functional.cross_entropy(self.logits(self.inputs(number, chosen)), self.labels[chosen])
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach()}

    def inputs(self, number: int, chosen: torch.Tensor) -> torch.Tensor:
        """What a step learns in place of the images of its batch; takes what :meth:`step` takes."""
        images = self.images[chosen]
        return images if self.augment is None else self.augment(images, self.generator("augmentation", number))

    def evaluate(self) -> Mapping[str, float]:
        """The accuracy on the test set, computed as in training."""
        return {"accuracy": self.accuracy()}

    @torch.no_grad()
    def accuracy(self) -> float:
        """The share of the test set that the network, in eval mode, classifies right."""
        right = torch.zeros((), dtype=torch.int64, device=self.job.device)
        for start in range(0, len(self.test_labels), TEST_BATCH_SIZE):
            batch = slice(start, start + TEST_BATCH_SIZE)
            right += (self.logits(self.test_images[batch]).argmax(1) == self.test_labels[batch]).sum()
        return int(right) / len(self.test_labels)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """The network's logits, float32, of images of any type."""
        # A batch at a time: a whole training set in float32 takes four times the memory.
        with torch.autocast(self.job.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            logits: torch.Tensor = self.network(in_unit_range(images))
        return logits.float()


def in_unit_range(images: torch.Tensor) -> torch.Tensor:
    """Images in float32 from 0 to 1; whole numbers from 0 to 255 are divided by 255."""
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images
