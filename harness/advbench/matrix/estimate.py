"""How long a run will take, measured on this machine before it begins."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable

import torch

from advbench.api import SampleRandom
from advbench.errors import describe
from advbench.matrix.environment import Environment, Workspace, workspace
from advbench.matrix.run import Todo
from advbench.matrix.tasks import CraftTask, ScoreTask, Task

__all__ = ["Estimate", "estimate"]

_TRIAL_IMAGES = 32
_log = logging.getLogger("advbench.estimate")
_UNKNOWN_PASSES = 200
"""Passes an image assumed for an attack that does not say how many it takes."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        seconds: In all, on one worker.
        of_job: Each job's share, by name.
        rough: Whether an attack does not say how many passes it takes.
    """

    seconds: float
    of_job: dict[str, float]
    rough: bool


def estimate(todo: Todo, environment: Environment) -> Estimate:
    """Times one pass of each model and each defense on a few images and adds up what is left to do.

    A component that fails here counts as taking no time; it will fail, and be reported, in its own cells.
    """
    trial = _Trial(workspace(environment))
    of_job = {name: trial.seconds(job.task) for name, job in todo.jobs.items()}
    return Estimate(sum(of_job.values()), of_job, trial.rough)


class _Trial:
    def __init__(self, place: Workspace) -> None:
        self.place = place
        self.rough = False
        self.measured: dict[tuple[str, ...], float] = {}

    def seconds(self, task: Task) -> float:
        """Estimated seconds of a task."""
        if isinstance(task, CraftTask):
            passes = self._once(("passes", task.attack), lambda: self._passes(task.attack))
            key = ("pass", task.model, task.dataset)
            each = self._once(key, lambda: self._pass_seconds(task.model, task.dataset))
            return len(task.ids) * each * passes
        if isinstance(task, ScoreTask):
            dataset, model, defense = task.specs["dataset"], task.specs["model"], task.specs["defense"]
            count = sum(len(ids) for _, ids in task.chunks)
        else:
            dataset, model, defense, count = task.dataset, task.model, task.defense, len(task.ids)
        forward = self._once(("pass", model, dataset), lambda: self._pass_seconds(model, dataset)) / 3
        return count * (forward + self._once((defense, dataset), lambda: self._defense_seconds(defense, dataset)))

    def _passes(self, attack: str) -> float:
        """Passes an image that an attack takes."""
        passes = self.place.attack(attack).passes()
        self.rough |= passes is None
        return float(_UNKNOWN_PASSES if passes is None else passes)

    def _once(self, key: tuple[str, ...], measure: Callable[[], float]) -> float:
        if key not in self.measured:
            self.measured[key] = 0.0
            try:
                self.measured[key] = measure()
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                _log.info("not part of the forecast, since it fails: %s", describe(error))
        return self.measured[key]

    def _images(self, spec: str, count: int) -> tuple[torch.Tensor, list[int]]:
        data = self.place.images(spec)
        ids = data.ids[:count].tolist()
        return data.take(ids)[0].to(self.place.device), ids

    def _pass_seconds(self, model: str, dataset: str) -> float:
        """Seconds an image of a forward and backward pass, at the batch size that attacks will see."""
        network = self.place.network(model)
        images, _ = self._images(dataset, self.place.environment.batch_size)

        def run() -> None:
            images.requires_grad_(True)
            loss = network(images).sum()
            torch.autograd.grad(loss, images)

        return _time(run, self.place.device) / len(images)

    def _defense_seconds(self, defense: str, dataset: str) -> float:
        """Seconds an image of a defense."""
        chain = self.place.chain(defense)
        images, ids = self._images(dataset, _TRIAL_IMAGES)
        chain.apply(images[:1].clone(), SampleRandom(0, "estimate", ids[:1], images.device))  # imports, warm-up

        def run() -> None:
            chain.apply(images.clone(), SampleRandom(0, "estimate", ids, images.device))

        return _time(run, self.place.device, repeats=1) / len(images)


def _time(run: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The quickest of some runs, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best
