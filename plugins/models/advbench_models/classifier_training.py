"""Training loop that all classifiers share: cross-entropy on batches, accuracy on the test set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from advbench.api import LabelledImages, TrainingJob, TrainingLoop, load_weights, save_weights

__all__ = ["ClassifierTraining", "behind_defense", "build_seeded", "in_unit_range"]

TEST_BATCH_SIZE = 500

Augment = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
Schedule = Callable[[int, int], float]


def build_seeded(build: Callable[[], nn.Module], job: TrainingJob) -> nn.Module:
    """Builds a network on the job's device, with initial weights that depend on the job's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(job.seed)
        network = build()
    return network.to(job.device)


def behind_defense(job: TrainingJob, defended: LabelledImages) -> dict[str, str]:
    """Returns the recipe's entries for the defense that the classifier is trained behind; empty without one."""
    return {"defense": job.defense, "defended_digest": defended.digest()} if job.defense else {}


class ClassifierTraining(TrainingLoop):
    """Trains a classifier on labelled images.

    Args:
        job: Options of the command line.
        recipe: The recipe, as in :class:`advbench.api.TrainingLoop`.
        network: Maps images in [0, 1] to logits, on the job's device.
        optimizer: Updates the network's parameters.
        training_set: Images to learn.
        test_set: Images on which accuracy is measured after each epoch; no choice depends on it.
        augment: Augments a batch of images, keeping dtype and shape; None for no augmentation.
        schedule: Maps (step, steps) to the learning rate; None for the optimiser's constant rate.
        autocast: Dtype of torch's autocast, such as bfloat16; None for float32.
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
        """Takes one gradient step on the batch's mean cross-entropy."""
        loss = functional.cross_entropy(self.logits(self.inputs(number, chosen)), self.labels[chosen])
        return self.descend(number, loss)

    def descend(self, number: int, loss: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Takes step ``number`` of the optimiser along the gradient of a loss, and returns the metrics to report."""
        if self.schedule is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self.schedule(number, self.steps)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach()}

    def round_to_8_bits(self, names: Collection[str]) -> Mapping[str, float]:
        """Rounds tensors of the network as they are when stored in 8 bits, and evaluates it again.

        Args:
            names: Names of the tensors; the output file is written without a description.

        Returns:
            What :meth:`evaluate` returns.
        """
        save_weights(self.job.output, self.network.state_dict(), {}, eight_bit=names)
        self.network.load_state_dict(load_weights(self.job.output, "train again"))
        self.network.eval()
        return self.evaluate()

    def inputs(self, number: int, chosen: torch.Tensor) -> torch.Tensor:
        """Returns the images that a step learns for its batch; takes the arguments of :meth:`step`."""
        images = self.images[chosen]
        return images if self.augment is None else self.augment(images, self.generator("augmentation", number))

    def evaluate(self) -> Mapping[str, float]:
        """Returns the accuracy on the test set, in the precision of the training."""
        return {"accuracy": self.accuracy()}

    @torch.no_grad()
    def accuracy(self) -> float:
        """Returns the share of the test set that the network classifies correctly in eval mode."""
        correct = torch.zeros((), dtype=torch.int64, device=self.job.device)
        for start in range(0, len(self.test_labels), TEST_BATCH_SIZE):
            batch = slice(start, start + TEST_BATCH_SIZE)
            correct += (self.logits(self.test_images[batch]).argmax(1) == self.test_labels[batch]).sum()
        return int(correct) / len(self.test_labels)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the network's logits, float32, for images of any dtype."""
        # Converted per batch: a whole training set in float32 takes four times the memory.
        with torch.autocast(self.job.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            logits: torch.Tensor = self.network(in_unit_range(images))
        return logits.float()


def in_unit_range(images: torch.Tensor) -> torch.Tensor:
    """Returns images as float32 in [0, 1]; uint8 images are divided by 255."""
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images
