"""A training loop over epochs and batches, with checkpoints for resuming an interrupted training exactly."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from advbench.api.randomness import SampleRandom
from advbench.api.training import TrainingJob, TrainingProgress, load_checkpoint, save_checkpoint

__all__ = ["TrainingLoop", "bfloat16_helps", "one_cycle"]


class TrainingLoop(ABC):
    """One training, from the start or from its checkpoint.

    A step must depend only on the network, the optimiser, the samples of its batch and its number. Draw random
    numbers from :meth:`generator`, and compute schedules from the step. Then, on the CPU, the same job with the
    same number of threads gives the same weights, whether or not it was interrupted.

    Attributes:
        history: For each finished epoch, the metrics of :meth:`evaluate`.
        CHECKPOINT_SECONDS: Seconds between checkpoints. An interruption loses at most the work of this time. There is
            also a checkpoint at the end of each epoch.
        REPORT_SECONDS: Seconds between reports within an epoch.

    Args:
        job: The request of the command line.
        recipe: All settings that determine the result, JSON-able. A checkpoint can only be resumed with the same
            recipe. Must contain ``epochs`` and ``batch_size``.
        samples: Number of samples per epoch.
        network: The network, which holds everything that is trained, including buffers.
        optimizer: Updates the network's parameters.
    """

    CHECKPOINT_SECONDS = 60.0
    REPORT_SECONDS = 1.0

    def __init__(
        self,
        job: TrainingJob,
        recipe: Mapping[str, Any],
        samples: int,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self.job = job
        self.recipe = recipe
        self.samples = samples
        self.network = network
        self.optimizer = optimizer
        self.epochs = int(recipe["epochs"])
        self.batch_size = int(recipe["batch_size"])
        self.batches = -(-samples // self.batch_size)
        self.history: list[dict[str, float]] = []

    @property
    def steps(self) -> int:
        """Total number of steps of the training."""
        return self.epochs * self.batches

    @abstractmethod
    def step(self, number: int, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Does one optimisation step.

        Args:
            number: The step, from 0, over all epochs.
            chosen: Indices of the batch's samples, int64, shape (batch,), on the job's device.

        Returns:
            Metrics to report, each a tensor with one number and without a gradient.
        """

    @abstractmethod
    def evaluate(self) -> Mapping[str, float]:
        """Evaluates the network after each epoch and returns metrics; must not change the network."""

    def run(self) -> Mapping[str, float]:
        """Trains until the last epoch, from the checkpoint if there is one.

        Returns:
            The metrics of the last evaluation.

        Raises:
            UsageError: The checkpoint belongs to another recipe, or cannot be written.
        """
        done = self._restore()
        while done < self.steps:
            done, losses = self._epoch(done)
            self.network.eval()
            self.history.append(dict(self.evaluate()))
            self._save(done)
            self._report(done, {**losses, **self.history[-1]})
        self.network.eval()
        return self.history[-1] if self.history else self.evaluate()

    def order(self, epoch: int) -> torch.Tensor:
        """The order of the samples in an epoch, which is counted from 1: a permutation, int64, shape (samples,)."""
        return torch.randperm(self.samples, generator=self._seeded("training order", epoch))

    def generator(self, purpose: str, step: int) -> torch.Generator:
        """A CPU generator of random numbers for one purpose in one step; a resumed training draws the same numbers."""
        return self._seeded(purpose, step)

    def provenance(self) -> dict[str, Any]:
        """The sidecar entries common to all trainings: recipe, history, device, threads, versions and date."""
        return {**self.recipe, "history": self.history, **self.job.provenance()}

    def _seeded(self, purpose: str, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(SampleRandom(self.job.seed, purpose, [number]).seeds()[0])

    def _epoch(self, done: int) -> tuple[int, dict[str, float]]:
        """Finishes the current epoch; returns the number of steps done, and the metrics since the last report."""
        self.network.train()
        latest = _Means()
        saved = reported = time.monotonic()
        for number, chosen in self._batches_left(done):
            latest.add(self.step(number, chosen))
            done = number + 1
            if done % self.batches == 0:
                break
            now = time.monotonic()
            if now - saved >= self.CHECKPOINT_SECONDS:
                self._save(done)
                saved = now
            if now - reported >= self.REPORT_SECONDS:
                self._report(done, latest.take())
                reported = now
        return done, latest.take()

    def _batches_left(self, done: int) -> Iterator[tuple[int, torch.Tensor]]:
        epoch, done_in_epoch = divmod(done, self.batches)
        order = self.order(epoch + 1).to(self.job.device)
        batches = torch.split(order, self.batch_size)[done_in_epoch:]
        return enumerate(batches, start=done)

    def _report(self, done: int, figures: Mapping[str, float]) -> None:
        epoch = -(-done // self.batches)
        self.job.report(TrainingProgress(done, self.steps, epoch, self.epochs, figures))

    def _save(self, done: int) -> None:
        tensors = {f"weights.{key}": value for key, value in self.network.state_dict().items()}
        numbers: dict[str, Any] = {}
        for index, entries in self.optimizer.state_dict()["state"].items():
            for key, value in entries.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"optimizer.{index}.{key}"] = value
                else:
                    numbers[f"{index}.{key}"] = value
        state = {"recipe": self.recipe, "step": done, "history": self.history, "optimizer": numbers}
        save_checkpoint(self.job.checkpoint, tensors, state)

    def _restore(self) -> int:
        """Restores the checkpoint; returns the number of steps done, 0 if there is no checkpoint."""
        checkpoint = load_checkpoint(self.job.checkpoint, self.recipe)
        if checkpoint is None:
            return 0
        tensors, state = checkpoint
        self.network.load_state_dict({key: tensors[f"weights.{key}"] for key in self.network.state_dict()})
        entries: dict[int, dict[str, Any]] = {}
        for name, value in [*tensors.items(), *((f"optimizer.{key}", v) for key, v in state["optimizer"].items())]:
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, key = rest.partition(".")
                entries.setdefault(int(index), {})[key] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": entries, "param_groups": groups})
        self.history = state.get("history", [])
        return int(state["step"])


class _Means:
    """Means of metrics since the last call of :meth:`take`; summed on their device, so that no step waits for it."""

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0

    def add(self, figures: Mapping[str, torch.Tensor]) -> None:
        for name, value in figures.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1

    def take(self) -> dict[str, float]:
        means = {name: float(value) / self.count for name, value in self.sums.items()}
        self.sums, self.count = {}, 0
        return means


def one_cycle(step: int, steps: int, highest: float, rise: float = 0.25) -> float:
    """Learning rate of a one-cycle schedule: linear warm-up to the highest rate, then linear decay to nearly 0.

    Source: Smith and Topin 2019, Super-Convergence, in its simplest form.

    Args:
        step: The step, from 0.
        steps: Total number of steps.
        highest: The highest learning rate.
        rise: Fraction of the steps that are warm-up.
    """
    top = max(1, round(rise * steps))
    return highest * min((step + 1) / top, (steps - step) / max(1, steps - top))


def bfloat16_helps(device: torch.device) -> bool:
    """Whether a device computes faster in bfloat16. Without hardware support, bfloat16 is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and has is not None and bool(has())
