"""Databases of patches of training images."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from advbench.api import TrainingJob, TrainingProgress, WeightsError, load_weights, save_weights

__all__ = ["DATASETS", "RECIPES", "SIZES", "load_patches", "make_database", "read_layout"]

RECIPES: Mapping[str, str] = {"random": "patches at random places of the training images, each different one once"}

DATASETS: Mapping[int, str] = {1: "mnist", 3: "cifar10"}
"""The dataset whose patches are used, by the number of channels."""

SIZES: Mapping[str, int] = {"mnist": 20_000, "cifar10": 30_000}
"""Number of patches."""

_HELD_OUT: Mapping[str, str] = {"mnist": "mnist-5k"}
"""Dataset whose images are excluded from the training set."""

_DRAWN_AT_ONCE = 100_000


def make_database(job: TrainingJob, patch: int) -> Mapping[str, Any]:
    """Draws different patches of the training images, and writes them with a sidecar.

    Args:
        job: Options of the command line; ``epochs`` has no meaning here.
        patch: Side of a patch in pixels.

    Returns:
        The content of the sidecar.
    """
    training_set = job.load_dataset(f"{job.dataset}:split=train")
    held_out = _HELD_OUT.get(job.dataset)
    if held_out is not None:
        training_set = training_set.without(job.load_dataset(held_out))
    images = training_set.images
    levels = images if images.dtype == torch.uint8 else (images * 255).round().to(torch.uint8)
    patches = _draw(levels, patch, SIZES[job.dataset], torch.Generator().manual_seed(job.seed))
    job.report(TrainingProgress(1, 1, 1, 1, {"patches": float(len(patches))}))
    provenance = {
        "component": "quilting",
        "recipe": job.recipe,
        "seed": job.seed,
        "patch": patch,
        "channels": levels.shape[1],
        "patches": len(patches),
        **job.provenance(),
        "training_set": f"{job.dataset}:split=train" + (f" without the images of {held_out}" if held_out else ""),
        "data_digest": training_set.digest(),
    }
    digest = save_weights(job.output, {"patches": patches}, provenance)
    return {"sha256": digest, **provenance}


def read_layout(path: Path) -> tuple[int, int] | None:
    """The channels and the side of the patches in a database, as its sidecar has them; None if it does not say."""
    try:
        sidecar = json.loads(path.with_suffix(".json").read_text("utf-8"))
        return int(sidecar["channels"]), int(sidecar["patch"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # weights_digest reports files that cannot be used


@functools.lru_cache(maxsize=4)
def load_patches(
    path: Path, state: tuple[int, int], layout: tuple[int, int], device: torch.device, remedy: str
) -> torch.Tensor:
    """Reads a database; cached, since a matrix needs it for every batch.

    Args:
        path: The file.
        state: Its time and size, so that a changed file is read again.
        layout: The channels and the side of the patches that are expected.
        device: Where the patches are needed.
        remedy: The command that makes the file.

    Returns:
        Patches in [0, 1], float32, shape (patches, channels, side, side).

    Raises:
        WeightsError: The file is missing, damaged, or has other patches.
    """
    del state
    patches = load_weights(path, remedy).get("patches")
    channels, side = layout
    if patches is None or patches.shape[1:] != (channels, side, side):
        raise WeightsError(f"{path} has no patches of {channels} channels and {side}×{side} pixels; {remedy}")
    return patches.to(device).float() / 255


def _draw(levels: torch.Tensor, side: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """Different patches in random order."""
    _, channels, height, width = levels.shape
    found: dict[bytes, torch.Tensor] = {}
    while len(found) < count:
        images, tops, lefts = (
            torch.randint(high, (_DRAWN_AT_ONCE,), generator=generator)
            for high in (len(levels), height - side + 1, width - side + 1)
        )
        rows = tops[:, None, None] + torch.arange(side)[:, None]
        columns = lefts[:, None, None] + torch.arange(side)
        drawn = levels.movedim(1, 3)[images[:, None, None], rows, columns].movedim(3, 1).contiguous()
        before = len(found)
        for patch in drawn:
            found.setdefault(patch.numpy().tobytes(), patch)
            if len(found) == count:
                break
        if len(found) == before:
            break  # the images have no more
    return torch.stack(list(found.values())).reshape(-1, channels, side, side)
