"""How many large images fit into memory at once.

A batch that is too large is detected by an error and halved. For large images this is too late: each attempt may take
minutes, and other processes of the machine lose their memory. So their number is chosen in advance.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from advbench.api import SampleRandom
from advbench.errors import describe
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier
from advbench.evaluation.work.memory.graphs import graph_bytes
from advbench.evaluation.work.networks import takes_rng
from advbench.evaluation.work.workspace import Workspace
from advbench.process.memory import available_memory
from advbench.process.state import is_user_interrupt, isolated_process
from advbench.specs import Chain

__all__ = ["BatchMemory", "batch_memory"]

_LARGE = 100 * 100
"""Pixels. Batches of smaller images hardly ever exceed a machine's memory."""

_SHARE = 0.5
"""The share of the available memory for graphs. The rest is for what layers and attacks need for a short time."""

_log = logging.getLogger("advbench.memory")


class BatchMemory(NamedTuple):
    """The memory that a network needs.

    Attributes:
        image: Bytes for each image; 0 if they are unknown, or images are small.
        batch: The largest number of images at once; 0 for any.
    """

    image: float = 0.0
    batch: int = 0


def batch_memory(workspace: Workspace, model: str, dataset: str, precision: str) -> BatchMemory:
    """How many images of a dataset a model can classify at once with gradients; measured once in each worker.

    Args:
        workspace: The worker's workspace.
        model: Spec of the model.
        dataset: Spec of the dataset.
        precision: The network's arithmetic.
    """
    key = model, dataset, precision
    if key not in workspace.batch_memory:
        workspace.batch_memory[key] = _measure(workspace, *key)
    found: BatchMemory = workspace.batch_memory[key]
    return found


def _measure(workspace: Workspace, model: str, dataset: str, precision: str) -> BatchMemory:
    try:
        _, height, width = workspace.dataset(dataset).image_shape
        if height * width <= _LARGE:
            return BatchMemory()
        available = available_memory(workspace.device)
        with isolated_process() as process:
            image = _bytes(workspace, model, dataset, precision)
            process.restore()  # the task itself reports what the network changes
            process.restored = True
    except BaseException as error:  # the task itself reports it
        if is_user_interrupt(error):
            raise
        _log.info("the memory of a batch is unknown: %s", describe(error))
        return BatchMemory()
    if available is None or not image:
        return BatchMemory(image)
    return BatchMemory(image, max(1, int(_SHARE * available / image)))


def _bytes(workspace: Workspace, model: str, dataset: str, precision: str) -> float:
    data = workspace.images(dataset)
    ids = data.ids[:1].tolist()
    images = data.take(ids)[0].to(workspace.device).requires_grad_()
    network = classifier = workspace.attacked_network(model, precision)
    if takes_rng(network):
        streams = SampleRandom(0, "memory", ids, images.device)
        classifier = DefendedClassifier(network, Chain(()), streams, 1)
    return graph_bytes(network, classifier, images)[1] + 8 * images.nbytes
