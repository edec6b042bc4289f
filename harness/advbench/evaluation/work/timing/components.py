"""Times one component in a worker, on a few images."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from advbench.api import Artefact, SampleRandom, process_taint
from advbench.api.executor import taint_process
from advbench.contracts.artefacts import trial_defense_artefact
from advbench.errors import describe
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier
from advbench.evaluation.work.certify import certify_batch
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.evaluation.work.execute import time_limit
from advbench.evaluation.work.memory.batches import BatchMemory, batch_memory
from advbench.evaluation.work.networks import takes_rng
from advbench.evaluation.work.workspace import Environment, Workspace, get_workspace
from advbench.process.state import ProcessState, is_user_interrupt, isolated_process
from advbench.process.threads import report_thread_errors
from advbench.specs import Chain
from advbench.store import digest_of

__all__ = ["Measurement", "Timing", "measure", "time_pass"]

_DEFENSE_IMAGES = 32
_CERTIFIED_IMAGES = 2
_TIMING_SECONDS = 0.1
"""No further repeat starts after so many seconds: the estimate must not delay the run."""

_FEWEST_PASSES = 2
"""A pass runs so often at least: the first one over a whole batch may wait for memory that the process never had, which
takes many times as long as the pass itself."""

_TIMEOUT = 10.0
"""The time limit in seconds of one measurement, if tasks have a time limit."""

_log = logging.getLogger("advbench.estimate")


class Measurement(NamedTuple):
    """The result of timing one component.

    Attributes:
        seconds: Seconds for each image; 0 if it failed.
        axis: The axis of a component that has changed the process; empty if none has.
        spec: Its spec.
        fault: Its error.
        memory: For the pass of a model, what a batch of large images needs.
    """

    seconds: float = 0.0
    axis: str = ""
    spec: str = ""
    fault: str = ""
    memory: BatchMemory = BatchMemory()


Timing = tuple[str, ...]
"""What to time: (``pass``, model, dataset, precision, number of images); (``defense``, defense, dataset); or, for a
defense that classifies or changes the shape of images, (``classify``, defense, dataset, model), which includes the
model, (``attacked``, defense, dataset, model), a forward and backward pass of one draw, and (``certify``, defense,
dataset, model), the certificate of an image."""


def measure(environment: Environment, timing: Timing) -> Measurement:
    """Times one component in this process; 0 if it fails, or has ended another process."""
    workspace, limit = get_workspace(environment), environment.timeout
    name = digest_of(["trial", *timing])[:24]
    if process_taint() or workspace.store.ended_attempts(
        name
    ):  # the pool submits it again, and it would end more workers
        return Measurement()
    seconds = None if limit is None else min(limit, _TIMEOUT)
    with workspace.store.timeout_marker(name) as marker, time_limit(seconds, marker):
        return _Timer(workspace).measure(timing)


class _Timer:
    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def measure(self, timing: Timing) -> Measurement:
        """How long a component takes; 0 if it fails."""
        log_error = lambda error: _log.info("a thread failed: %s", describe(error))  # noqa: E731
        with isolated_process() as process, report_thread_errors(log_error):
            self._attempt(lambda: len(self.workspace.images(timing[2])))
            fault = self._fault(process, "dataset", timing[2])
            if fault is None:
                seconds = self._attempt(lambda: self._seconds(timing))
                fault = self._fault(process, "model" if timing[0] == "pass" else "defense", timing[1])
            process.restored = True
        if fault is not None or timing[0] != "pass":
            return fault or Measurement(seconds)
        return Measurement(seconds, memory=batch_memory(self.workspace, *timing[1:4]))

    def _fault(self, process: ProcessState, axis: str, spec: str) -> Measurement | None:
        """The error of a component that has changed the process, which computes nothing more then."""
        changes = process.restore()
        if not changes:
            return None
        message = f"{axis} {spec.partition(':')[0]!r} changed {' and '.join(changes)} for the whole process"
        taint_process(message)
        return Measurement(0.0, axis, spec, f"ContractError: {message}")

    def _attempt(self, run: Callable[[], float]) -> float:
        try:
            return run()
        except BaseException as error:
            if is_user_interrupt(error):
                raise
            _log.info("not part of the estimate, since it fails: %s", describe(error))
            return 0.0

    def _seconds(self, timing: Timing) -> float:
        if timing[0] == "defense":
            return self._defense_seconds(*timing[1:])
        if timing[0] in ("classify", "attacked"):
            return self._classifying_seconds(*timing)
        if timing[0] == "certify":
            return self._certificate_seconds(*timing[1:])
        model, dataset, precision, count = timing[1:]
        return self._pass_seconds(model, dataset, int(count), precision)

    def _images(self, spec: str, count: int) -> tuple[torch.Tensor, list[int]]:
        data = self.workspace.images(spec)
        ids = data.ids[:count].tolist()
        return data.take(ids)[0].to(self.workspace.device), ids

    def _pass_seconds(self, model: str, dataset: str, count: int, precision: str) -> float:
        """Seconds for each image of a forward and backward pass over a batch of this size."""
        most = batch_memory(self.workspace, model, dataset, precision).batch
        network = self.workspace.attacked_network(model, precision)
        images, ids = self._images(dataset, min(count, most) if most else count)
        if takes_rng(network):
            streams = SampleRandom(0, "estimate", ids, images.device)
            network = DefendedClassifier(network, Chain(()), streams, 1)
        return time_pass(network, images) / len(images)

    def _defense_seconds(self, defense: str, dataset: str) -> float:
        """Seconds for each image of a defense."""
        chain = self.workspace.chain(defense)
        images, ids = self._images(dataset, _DEFENSE_IMAGES)
        chain.apply(images[:1].clone(), SampleRandom(0, "estimate", ids[:1], images.device))  # imports, warm-up

        def run() -> None:
            chain.apply(images.clone(), SampleRandom(0, "estimate", ids, images.device))

        return _time(run, self.workspace.device, repeats=1) / len(images)

    def _classifying_seconds(self, what: str, defense: str, dataset: str, model: str) -> float:
        """Seconds for each image of a prediction, or of a forward and backward pass, of defense and model together."""
        chain, network = self.workspace.chain(defense), self.workspace.network(model)
        images, ids = self._images(dataset, _DEFENSE_IMAGES)
        fitted = self._fitted(chain, network, images, ids)
        if what == "attacked":
            streams = SampleRandom(0, "estimate", ids, images.device)
            labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
            classifier = DefendedClassifier(network, chain, streams, 1, labels=labels, fitted=fitted)
            return time_pass(classifier, images) / len(images)

        @torch.no_grad()
        def classify(count: int) -> None:
            passed = ChainPass(chain, network, self.workspace.batch_size, fitted)
            passed.answer(images[:count], SampleRandom(0, "estimate", ids[:count], images.device))

        classify(1)  # imports, warm-up
        return _time(lambda: classify(len(images)), self.workspace.device, repeats=1) / len(images)

    def _certificate_seconds(self, defense: str, dataset: str, model: str) -> float:
        """Seconds for the certificate of an image."""
        images, ids = self._images(dataset, _CERTIFIED_IMAGES)
        fitted = self._fitted(self.workspace.chain(defense), self.workspace.network(model), images, ids)

        def run() -> None:
            rng = SampleRandom(0, "estimate", ids, images.device)
            certify_batch(self.workspace, model, defense, images, rng, fitted=fitted)

        return _time(run, self.workspace.device, repeats=1) / len(images)

    def _fitted(
        self, chain: Chain, network: torch.nn.Module, images: torch.Tensor, ids: list[int]
    ) -> list[Artefact | None]:
        """What the parts of a defense fit to a few images; it takes about as long to use as what they fit to many."""
        fitted: list[Artefact | None] = [None] * len(chain.parts)
        rng = SampleRandom(0, "estimate", ids, images.device)
        labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        for index in reversed(range(len(chain.parts))):
            inside = ChainPass(chain, network, self.workspace.batch_size, fitted).inside(index, rng)
            fitted[index] = trial_defense_artefact(chain.parts[index], inside, images, labels, rng)
        return fitted


def time_pass(classifier: torch.nn.Module, images: torch.Tensor) -> float:
    """Seconds of a forward and backward pass over a batch: the fastest of some.

    Of a classifier without gradients, three times those of a forward pass, since this counts as a third of a pass.
    """

    def run(batch: torch.Tensor) -> bool:
        points = batch.clone().requires_grad_()
        logits = classifier(points)
        if logits.requires_grad:
            torch.autograd.grad(logits.sum(), points)
        return bool(logits.requires_grad)

    follows = run(images[:1])  # the first pass on a device sets it up
    return _time(lambda: run(images), images.device, fewest=_FEWEST_PASSES) * (1 if follows else 3)


def _time(run: Callable[[], object], device: torch.device, repeats: int = 3, fewest: int = 1) -> float:
    """The fastest of some runs, in seconds; after ``fewest``, no further one starts after ``_TIMING_SECONDS``."""
    seconds: list[float] = []
    while len(seconds) < fewest or (len(seconds) < repeats and sum(seconds) < _TIMING_SECONDS):
        began = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds)
