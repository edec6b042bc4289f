"""How long a run will take, measured on this machine before it begins."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable

import torch

from advbench.api import SampleRandom
from advbench.discovery import threads_watched
from advbench.errors import describe
from advbench.evaluation.environment import Environment, Workspace, workspace
from advbench.evaluation.run import Todo
from advbench.evaluation.tasks import CraftTask, ScoreTask, Task
from advbench.specs import FLOAT32

__all__ = ["Estimate", "estimate"]

_TRIAL_IMAGES = 32
_ENOUGH = 0.1
"""Seconds of trial after which what was measured has to do: the forecast must not hold up what it forecasts."""

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
            key = ("pass", task.model, task.dataset, task.precision)
            each = self._once(key, lambda: self._pass_seconds(task.model, task.dataset, len(task.ids), task.precision))
            return len(task.ids) * each * passes
        if isinstance(task, ScoreTask):
            dataset, model, defense = task.specs["dataset"], task.specs["model"], task.specs["defense"]
            count = sum(len(ids) for _, ids in task.chunks)
        else:
            dataset, model, defense, count = task.dataset, task.model, task.defense, len(task.ids)
        forward = self._once(("pass", model, dataset, FLOAT32), lambda: self._pass_seconds(model, dataset, count)) / 3
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
                with threads_watched(lambda error: _log.info("a thread failed: %s", describe(error))):
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

    def _pass_seconds(self, model: str, dataset: str, count: int, precision: str = FLOAT32) -> float:
        """Seconds an image of a forward and backward pass, in a batch as large as those of ``count`` samples."""
        network = self.place.attacked_network(model, precision)
        images, _ = self._images(dataset, min(count, self.place.environment.batch_size))

        def run(some: torch.Tensor) -> None:
            points = some.clone().requires_grad_()
            torch.autograd.grad(network(points).sum(), points)

        run(images[:1])  # the first pass on a device sets it up
        return _time(lambda: run(images), self.place.device) / len(images)

    def _defense_seconds(self, defense: str, dataset: str) -> float:
        """Seconds an image of a defense."""
        chain = self.place.chain(defense)
        images, ids = self._images(dataset, _TRIAL_IMAGES)
        chain.apply(images[:1].clone(), SampleRandom(0, "estimate", ids[:1], images.device))  # imports, warm-up

        def run() -> None:
            chain.apply(images.clone(), SampleRandom(0, "estimate", ids, images.device))

        return _time(run, self.place.device, repeats=1) / len(images)


def _time(run: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """The quickest of some runs, in seconds; no further one is begun after ``_ENOUGH``."""
    taken: list[float] = []
    while len(taken) < repeats and sum(taken) < _ENOUGH:
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return min(taken)
