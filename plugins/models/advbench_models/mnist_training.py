"""The recipe by which MNIST classifiers are trained.

It is the paper's: 10 epochs of plain cross-entropy in batches of 64 by SGD with learning rate 0.01 and
momentum 0.5, both constant. It differs in one thing: images that the dataset ``mnist-5k`` also has are
left out, since all of these come from MNIST's training set and a model must not be scored on images that
it has learnt.
"""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from advbench.api import (
    DataError,
    LabelledImages,
    SampleRandom,
    TrainingJob,
    TrainingProgress,
    load_checkpoint,
    save_checkpoint,
    save_weights,
)

__all__ = ["order_of_samples", "train_mnist_classifier", "without_held_out"]

EPOCHS = 10
BATCH_SIZE = 64
LEARNING_RATE = 0.01
MOMENTUM = 0.5

TRAINING_SET = "mnist:split=train"
TEST_SET = "mnist:split=test"
HELD_OUT = "mnist-5k"

BATCHES_PER_REPORT = 20
TEST_BATCH_SIZE = 1000


def train_mnist_classifier(name: str, build: Callable[[], nn.Module], job: TrainingJob) -> Mapping[str, Any]:
    """Trains a classifier and writes its weights, their sidecar and, while it lasts, a checkpoint.

    On the CPU, the same seed, data and number of threads give the same weights, whether or not the training
    was interrupted.

    Args:
        name: The component that is trained.
        build: Makes the network; its initial weights are drawn from torch's own generator.
        job: What the command line asks for.

    Returns:
        What the sidecar says.

    Raises:
        DataError: The training set does not hold the images to be held out.
        UsageError: The checkpoint belongs to another recipe, seed or data.
    """
    training_set = without_held_out(job.load_dataset(TRAINING_SET), job.load_dataset(HELD_OUT))
    recipe: dict[str, Any] = {
        "component": name,
        "epochs": EPOCHS if job.epochs is None else job.epochs,
        "batch_size": BATCH_SIZE,
        "optimizer": "sgd",
        "learning_rate": LEARNING_RATE,
        "momentum": MOMENTUM,
        "loss": "cross-entropy",
        "seed": job.seed,
        "data_digest": training_set.digest(),
    }
    accuracy, network = _Training(build, recipe, training_set, job).run()
    provenance = {
        **recipe,
        "training_set": f"{TRAINING_SET} without the images of {HELD_OUT}",
        "training_samples": len(training_set),
        "test_set": TEST_SET,
        "test_accuracy": accuracy,
        "device": job.device.type,
        "threads": torch.get_num_threads(),
        "versions": _versions(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    digest = save_weights(job.output, network.state_dict(), provenance)
    job.checkpoint.unlink(missing_ok=True)
    return {"sha256": digest, **provenance}


def without_held_out(training_set: LabelledImages, held_out: LabelledImages) -> LabelledImages:
    """The training set without the images that are also held out, found by their pixels.

    Raises:
        DataError: MNIST's whole training set does not hold every held-out image exactly once.
    """
    excluded = {image.tobytes() for image in held_out.images.numpy()}
    keep = torch.tensor([image.tobytes() not in excluded for image in training_set.images.numpy()])
    removed = int((~keep).sum())
    if len(training_set) == 60_000 and removed != len(held_out):
        raise DataError(
            f"{removed} images of {TRAINING_SET} are in {HELD_OUT}, which has {len(held_out)}: "
            "the two do not belong together; run 'advbench doctor'"
        )
    return LabelledImages(training_set.images[keep], training_set.labels[keep], training_set.ids[keep])


def order_of_samples(count: int, seed: int, epoch: int) -> torch.Tensor:
    """The order in which an epoch goes through the samples; a resumed training needs nothing else to find it again."""
    generator = torch.Generator().manual_seed(SampleRandom(seed, "training order", [epoch]).seeds()[0])
    return torch.randperm(count, generator=generator)


class _Training:
    """One training from its beginning or from its checkpoint."""

    def __init__(
        self, build: Callable[[], nn.Module], recipe: Mapping[str, Any], training_set: LabelledImages, job: TrainingJob
    ) -> None:
        self.job = job
        self.recipe = recipe
        self.epochs: int = recipe["epochs"]
        self.images, self.labels = _on_device(training_set, job.device)
        self.test_images, self.test_labels = _on_device(job.load_dataset(TEST_SET), job.device)
        self.batches = -(-len(self.labels) // BATCH_SIZE)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(job.seed)
            self.network = build()
        self.network.to(job.device)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)

    def run(self) -> tuple[float, nn.Module]:
        """Trains what is left to train; returns the test accuracy and the network."""
        accuracy: float | None = None
        for epoch in range(self._restore() + 1, self.epochs + 1):
            loss = self._epoch(epoch)
            self._save(epoch)
            accuracy = self._accuracy()
            self._report(epoch, self.batches, {"loss": loss, "accuracy": accuracy})
        return self._accuracy() if accuracy is None else accuracy, self.network

    def _epoch(self, epoch: int) -> float:
        """Goes through the training set once; returns the mean loss of the batches since the last report."""
        self.network.train()
        order = order_of_samples(len(self.labels), self.job.seed, epoch).to(self.job.device)
        losses: deque[torch.Tensor] = deque(maxlen=BATCHES_PER_REPORT)
        for batch, chosen in enumerate(torch.split(order, BATCH_SIZE), start=1):
            logits = self.network(_scaled(self.images[chosen]))
            loss = functional.cross_entropy(logits, self.labels[chosen])
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
            self.optimizer.step()
            losses.append(loss.detach())
            if batch % BATCHES_PER_REPORT == 0 and batch < self.batches:
                self._report(epoch, batch, {"loss": _mean(losses)})
        return _mean(losses)

    def _accuracy(self) -> float:
        self.network.eval()
        right = 0
        with torch.no_grad():
            for start in range(0, len(self.test_labels), TEST_BATCH_SIZE):
                batch = slice(start, start + TEST_BATCH_SIZE)
                predictions = self.network(_scaled(self.test_images[batch])).argmax(1)
                right += int((predictions == self.test_labels[batch]).sum())
        return right / len(self.test_labels)

    def _report(self, epoch: int, batch: int, figures: Mapping[str, float]) -> None:
        self.job.report(
            TrainingProgress(
                step=(epoch - 1) * self.batches + batch,
                steps=self.epochs * self.batches,
                epoch=epoch,
                epochs=self.epochs,
                figures=figures,
            )
        )

    def _save(self, epoch: int) -> None:
        tensors = {f"weights.{key}": value for key, value in self.network.state_dict().items()}
        for key, parameter in self.network.named_parameters():
            tensors[f"momentum.{key}"] = self.optimizer.state[parameter]["momentum_buffer"]
        save_checkpoint(self.job.checkpoint, tensors, {"recipe": self.recipe, "epoch": epoch})

    def _restore(self) -> int:
        """Goes back to the checkpoint; returns how many epochs it has behind it, 0 where there is none."""
        checkpoint = load_checkpoint(self.job.checkpoint, self.recipe)
        if checkpoint is None:
            return 0
        tensors, state = checkpoint
        self.network.load_state_dict({key: tensors[f"weights.{key}"] for key in self.network.state_dict()})
        for key, parameter in self.network.named_parameters():
            self.optimizer.state[parameter]["momentum_buffer"] = tensors[f"momentum.{key}"].to(parameter)
        return int(state["epoch"])


def _on_device(data: LabelledImages, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return data.images.to(device), data.labels.to(device)


def _scaled(images: torch.Tensor) -> torch.Tensor:
    """Images as models take them. A batch at a time: all of MNIST in float32 takes four times the memory."""
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images


def _mean(losses: deque[torch.Tensor]) -> float:
    return float(torch.stack(list(losses)).mean())


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in ("torch", "advbench")}}
