"""What models without a defense predict for a few samples, and which samples are shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

import torch

from advbench.analysis import Views
from advbench.api import SampleRandom, are_probabilities
from advbench.errors import UsageError
from advbench.evaluation.work.networks import ask_network
from advbench.evaluation.work.workspace import Workspace

__all__ = ["UndefendedViews", "choose_samples", "first_draw", "image_shape", "views_of"]

TRIED = 5
"""The model is run on so many times more samples than are shown, to find some that it classifies correctly."""

_MAX_KEPT = 32
"""How many views of images are kept: clean images are those of many cells, oblivious attacks' those of all defenses."""


class UndefendedViews:
    """Images as models without a defense predict them; the latest are kept.

    Args:
        workspace: Where components are loaded.
        seed: The run's seed.
    """

    def __init__(self, workspace: Workspace, seed: int) -> None:
        self._workspace = workspace
        self._seed = seed
        self._kept: dict[tuple[object, ...], Views] = {}

    def of(self, model: str, images: torch.Tensor, ids: Sequence[int]) -> Views:
        """The images of some samples, shape (n, channels, height, width), with a model's predictions.

        Raises:
            UsageError: The model takes images of another shape.
        """
        workspace = self._workspace
        if workspace.model(model).image_shape not in (None, image_shape(images)):
            raise UsageError(
                f"model {model!r} cannot predict images of shape {image_shape(images)} without the defense"
            )
        found = self._kept.pop(_key(model, images, ids), None)
        if found is None:
            size = workspace.batch_size
            logits = [
                ask_network(
                    workspace.network(model),
                    images[start : start + size].to(workspace.device),
                    first_draw(workspace, self._seed, ids[start : start + size]),
                )
                for start in range(0, len(ids), size)
            ]
            found = views_of(images, torch.cat(logits))
        self.keep(model, images, ids, found)
        return found

    def keep(self, model: str, images: torch.Tensor, ids: Sequence[int], views: Views) -> None:
        """Keeps predictions that are known, so that the model is not asked for them."""
        self._kept[_key(model, images, ids)] = views  # as the last one
        if len(self._kept) > _MAX_KEPT:
            self._kept.pop(next(iter(self._kept)))


def _key(model: str, images: torch.Tensor, ids: Sequence[int]) -> tuple[object, ...]:
    content = images.contiguous().cpu().numpy()
    return model, tuple(ids), content.shape, hashlib.sha256(content.data).digest()


def choose_samples(
    labels: Sequence[int], count: int, predicted: Callable[[list[int]], Iterable[int]]
) -> tuple[int, ...]:
    """Positions of samples to show: of each class in turn the first that the model classifies correctly.

    Args:
        labels: The labels of all samples.
        count: How many to choose. If too few are classified correctly, others are among them.
        predicted: The model's predictions for the samples at some positions.
    """
    chosen: list[int] = []
    candidates = class_round_robin(labels)[: TRIED * count]
    for start in range(0, len(candidates), count):
        if len(chosen) >= count:
            break
        positions = candidates[start : start + count]
        chosen += [
            position
            for position, prediction in zip(positions, predicted(positions), strict=True)
            if prediction == labels[position]
        ]
    return tuple(dict.fromkeys([*chosen, *candidates]))[:count]


def class_round_robin(labels: Sequence[int]) -> list[int]:
    """Positions in an order that takes the first sample of each class in turn, then the second of each, and so on."""
    count: dict[int, int] = {}
    ranked = []
    for position, label in enumerate(labels):
        count[label] = count.get(label, -1) + 1
        ranked.append((count[label], label, position))
    return [position for _, _, position in sorted(ranked)]


def first_draw(workspace: Workspace, seed: int, ids: Sequence[int]) -> SampleRandom:
    """The random streams of the first draw of the score."""
    return SampleRandom(seed, "defense", ids, workspace.device)


def image_shape(images: torch.Tensor) -> tuple[int, int, int]:
    """The shape of each image of a batch."""
    channels, height, width = images.shape[1:]
    return channels, height, width


def views_of(images: torch.Tensor, logits: torch.Tensor) -> Views:
    """Images with the predictions of logits or probabilities."""
    output = logits.to(torch.float32)
    probabilities = output if are_probabilities(output) else torch.softmax(output, dim=1)
    best = probabilities.max(dim=1)
    return Views(images.cpu().float().numpy(), best.indices.cpu().numpy(), best.values.cpu().float().numpy())
