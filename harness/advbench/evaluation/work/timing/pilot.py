"""Counts the passes that an attack takes, and its other work, by running its beginning on some images.

An attack declares its passes for an image that it does not break. On a model that breaks early, most images leave the
attack after a few steps, and it takes a small part of these.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import NamedTuple

import torch

from advbench.api import ClassifierWrapper, SampleRandom, for_rows, process_taint
from advbench.api.executor import taint_process
from advbench.errors import describe
from advbench.evaluation.plan.tasks import CraftTask
from advbench.evaluation.work.attacked.batch import AttackedBatch
from advbench.evaluation.work.execute import time_limit
from advbench.evaluation.work.timing.components import time_pass
from advbench.evaluation.work.workspace import Environment, Workspace, get_workspace
from advbench.process.state import is_user_interrupt, isolated_process
from advbench.process.threads import report_thread_errors
from advbench.store import digest_of

__all__ = ["Pilot", "PilotResult", "pilot_of", "run_pilot"]

_IMAGES = 48
_FEWEST_IMAGES = 4

_CALL_SECONDS = 0.05
"""A pilot takes fewer images if one pass takes longer than this."""

_LONGEST = 1.5
"""The longest time of one pilot in seconds."""

_STEPS = 120
"""A pilot takes up to three times as long to reach so many passes: some attacks drop broken images after 100."""

_SHARE = 0.02
"""The largest share of the expected time of the jobs that a pilot may take."""

_SHORTEST = 0.08
"""A pilot that may not take so many seconds shows too little."""

_MOST_OVERHEAD = 5.0
"""The largest overhead. Overhead that is larger in a small batch is hardly so in a large one."""

_FORWARD, _BACKWARD = 1 / 3, 2 / 3
"""The shares of a forward and a backward pass in a pass."""

_TIMEOUT = 10.0
"""The time limit of a pilot whose attack does not query its model, if tasks have a time limit."""

_log = logging.getLogger("advbench.estimate")


class Pilot(NamedTuple):
    """What to run.

    Attributes:
        task: The attack on a few of the samples.
        passes: The passes that the attack declares.
        seconds: When to stop.
    """

    task: CraftTask
    passes: float
    seconds: float


class PilotResult(NamedTuple):
    """What a pilot has shown.

    Attributes:
        passes: The passes that the attack takes for each image.
        overhead: The time of the attack as a multiple of that of its passes, 1 or more.
    """

    passes: float
    overhead: float = 1.0


def pilot_of(task: CraftTask, passes: float, pass_seconds: float, job_seconds: float) -> Pilot | None:
    """The pilot of an attack; None if it would show too little for the time that it takes.

    Args:
        task: A task with the attack.
        passes: The passes that the attack declares.
        pass_seconds: Seconds of one pass for one image.
        job_seconds: Expected seconds of all jobs with this attack on this classifier.
    """
    seconds = min(_LONGEST, _SHARE * job_seconds)
    images = min(len(task.ids), max(_FEWEST_IMAGES, min(_IMAGES, int(_CALL_SECONDS / max(pass_seconds, 1e-9)))))
    if seconds < max(_SHORTEST, 5 * images * pass_seconds):
        return None
    ids = task.ids[:: len(task.ids) // images][:images]
    # The attacked classifier on clean images is computed once for equal samples.
    few = dataclasses.replace(task, ids=ids, part=None, key_inputs={"ids": digest_of(list(ids))})
    return Pilot(few, passes, seconds)


def run_pilot(environment: Environment, pilot: Pilot) -> PilotResult:
    """Runs the beginning of an attack, and extrapolates; if it fails, its passes are those that it declares.

    It judges nobody: an attack that is stopped may leave things changed that it would have restored.
    """
    workspace, task = get_workspace(environment), pilot.task
    name = digest_of(["pilot", task.attack, task.model, task.dataset, task.defense, task.precision])[:24]
    if process_taint() or workspace.store.ended_attempts(name):
        return PilotResult(pilot.passes)
    limit = None if environment.timeout is None else min(environment.timeout, _TIMEOUT)
    log_error = lambda error: _log.info("a thread failed: %s", describe(error))  # noqa: E731
    with (
        workspace.store.timeout_marker(name) as marker,
        time_limit(limit, marker),
        isolated_process(task.seed) as process,
        report_thread_errors(log_error),
    ):
        try:
            return _run(workspace, pilot)
        except BaseException as error:
            if is_user_interrupt(error):
                raise
            _log.info("the passes are those that the attack declares, since it fails: %s", describe(error))
            return PilotResult(pilot.passes)
        finally:
            workspace.forget_changed_networks()
            changes = process.restore()
            process.restored = True
            if changes:
                taint_process(f"attack {task.attack!r} changed {' and '.join(changes)} for the whole process")


def _run(workspace: Workspace, pilot: Pilot) -> PilotResult:
    attack, batch = workspace.attack(pilot.task.attack), AttackedBatch(workspace, pilot.task, 0)
    tally, count, rows = _Tally(pilot.seconds), len(batch.ids), batch.attacked_rows
    if not len(rows):
        return PilotResult(pilot.passes)
    rng = SampleRandom(pilot.task.seed, "attack", batch.ids, workspace.device)[rows]
    model = for_rows(_CountingClassifier(batch.target, tally), rows)
    one_pass = time_pass(batch.target, batch.clean)
    try:
        attack.craft(model, batch.clean[rows], batch.goal[rows], rng, None)
        left = 0.0
    except _StopPilot:  # it has at least as much left as it has done, unless it declares less
        left = max(tally.steps, pilot.passes - tally.steps) * tally.active() / count
    passes = min(pilot.passes, tally.image_passes / count + left) if left else tally.image_passes / count
    busy = one_pass * tally.image_passes
    overhead = tally.seconds() * count / busy if busy else 1.0
    return PilotResult(passes, min(max(1.0, overhead), _MOST_OVERHEAD))


class _StopPilot(BaseException):
    """The time is up. No attack should handle it as an error of its model."""


class _Tally:
    """The passes of an attack.

    Args:
        seconds: When to stop, counted from the first pass: an attack may import a library before it.

    Attributes:
        image_passes: The passes, each as often as it had images.
        steps: The passes.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began: float | None = None
        self.image_passes = 0.0
        self.steps = 0.0
        self._images: list[int] = []

    def check_time(self) -> None:
        if self._began is None:
            self._began = time.perf_counter()
        elif self.seconds() > (self._seconds if self.steps > _STEPS else 3 * self._seconds):
            raise _StopPilot

    def seconds(self) -> float:
        """Seconds since the first pass."""
        return 0.0 if self._began is None else time.perf_counter() - self._began

    def add(self, images: int, share: float) -> None:
        self.image_passes += images * share
        self.steps += share
        self._images.append(images)

    def active(self) -> float:
        """The mean number of images in the later half of the passes: some attacks drop images for some time."""
        later = self._images[len(self._images) // 2 :]
        return sum(later) / len(later)


class _CountingClassifier(ClassifierWrapper):
    """A classifier that counts its passes, and raises an exception once the time is up."""

    def __init__(self, target: torch.nn.Module, tally: _Tally) -> None:
        super().__init__(target)
        self.tally = tally

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.tally.check_time()
        count, tally = len(images), self.tally
        tally.add(count, _FORWARD)
        logits: torch.Tensor = self.target(images)
        if isinstance(logits, torch.Tensor) and logits.requires_grad:
            logits.register_hook(lambda _: tally.add(count, _BACKWARD))  # type: ignore[no-untyped-call]
        return logits
