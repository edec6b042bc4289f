"""Epochs of batches, with checkpoints from which an interrupted training goes on as if nothing had happened."""

from __future__ import annotations

import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import torch
from torch import nn

from advbench.api.randomness import SampleRandom
from advbench.api.training import TrainingJob, TrainingProgress, load_checkpoint, save_checkpoint

__all__ = ["TrainingLoop", "bfloat16_helps", "one_cycle"]


class TrainingLoop(ABC):
    """One training, from its beginning or from its checkpoint.

    All that a step does must follow from the network, the optimiser, the samples of its batch and its number:
    random numbers come from :meth:`generator`, schedules are functions of the step. Then, on the CPU, the same
    job with the same number of threads gives the same weights, whether or not it was interrupted.

    Attributes:
        CHECKPOINT_SECONDS: How much work an interruption may cost; the end of an epoch is kept besides.
        REPORT_SECONDS: How often to report within an epoch.

    Args:
        job: What the command line asks for.
        recipe: All that decides the outcome, JSON-able; a checkpoint is of use to the same recipe alone. Must hold
            ``epochs`` and ``batch_size``.
        samples: How many samples an epoch goes through.
        network: Holds, with its buffers, all that is trained.
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

    @property
    def steps(self) -> int:
        """How many steps the whole training has."""
        return self.epochs * self.batches

    @abstractmethod
    def step(self, number: int, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Does one step of optimisation.

        Args:
            number: The step, from 0, over all epochs.
            chosen: Positions of the batch's samples, int64, shape (batch,), on the job's device.

        Returns:
            Figures to report, each a tensor of one number without a gradient.
        """

    @abstractmethod
    def evaluate(self) -> Mapping[str, float]:
        """Figures that tell how good the network is, after each epoch; must leave the network as it is."""

    def run(self) -> Mapping[str, float]:
        """Trains what is left to train and returns the last evaluation's figures.

        Raises:
            UsageError: The checkpoint belongs to another recipe, or cannot be written.
        """
        done = self._restore()
        figures: Mapping[str, float] | None = None
        while done < self.steps:
            done, losses = self._epoch(done)
            self._save(done)
            self.network.eval()
            figures = self.evaluate()
            self._report(done, {**losses, **figures})
        if figures is None:
            self.network.eval()
            figures = self.evaluate()
        return figures

    def order(self, epoch: int) -> torch.Tensor:
        """The order in which an epoch, counted from 1, goes through the samples: a permutation, int64."""
        return torch.randperm(self.samples, generator=self._seeded("training order", epoch))

    def generator(self, purpose: str, step: int) -> torch.Generator:
        """Random numbers for one purpose of one step; a resumed training draws the same. On the CPU."""
        return self._seeded(purpose, step)

    def provenance(self) -> dict[str, Any]:
        """What a sidecar says of every training: the recipe, where it ran, with what, when."""
        distributions = ("torch", "advbench")
        return {
            **self.recipe,
            "device": self.job.device.type,
            "threads": torch.get_num_threads(),
            "versions": {
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in distributions},
            },
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }

    def _seeded(self, purpose: str, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(SampleRandom(self.job.seed, purpose, [number]).seeds()[0])

    def _epoch(self, done: int) -> tuple[int, dict[str, float]]:
        """Does what is left of the epoch under way; returns the steps done, and the figures of the latest of them."""
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
        epoch, behind = divmod(done, self.batches)
        order = self.order(epoch + 1).to(self.job.device)
        batches = torch.split(order, self.batch_size)[behind:]
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
        save_checkpoint(self.job.checkpoint, tensors, {"recipe": self.recipe, "step": done, "optimizer": numbers})

    def _restore(self) -> int:
        """Goes back to the checkpoint; returns how many steps it has behind it, 0 where there is none."""
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
        return int(state["step"])


class _Means:
    """Means of figures since they were last taken; summed where they are, so that no step waits for a device."""

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
    """The learning rate of a step: straight up to the highest, then straight down, nearly to 0.

    Smith and Topin 2019, Super-Convergence, in its simplest form.

    Args:
        step: The step, from 0.
        steps: How many there are.
        highest: The learning rate at the top.
        rise: The share of the steps that lead up to it.
    """
    top = max(1, round(rise * steps))
    return highest * min((step + 1) / top, (steps - step) / max(1, steps - top))


def bfloat16_helps(device: torch.device) -> bool:
    """Whether a device computes faster in bfloat16: without instructions for it, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and has is not None and bool(has())
