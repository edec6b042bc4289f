"""Whether the weights in files are those of an architecture, without loading them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from advbench.api import WeightsError
from advbench_models.pretrained.packages import one_line

__all__ = ["has_shapes", "needs_size", "stored_shapes"]

Shapes = Mapping[str, tuple[int, ...]]


def stored_shapes(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in safetensors files, by name.

    Raises:
        WeightsError: A file is damaged.
    """
    return {name: shape for path in files for name, shape in _shapes_in(path).items()}


def _shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"weights {path} are not readable as safetensors ({one_line(error)})") from error


def has_shapes(build: Callable[[], nn.Module], shapes: Shapes) -> bool:
    """Whether a network has exactly these weights; False if that cannot be found without memory for the weights.

    Args:
        build: Builds the network.
        shapes: The shapes of the weights, by name.
    """
    try:
        with torch.device("meta"):
            network = build()
    except Exception:  # some networks compute with their weights when they are built
        return False
    return {name: tuple(value.shape) for name, value in network.state_dict().items()} == dict(shapes)


def needs_size(build: Callable[[], nn.Module], image_shape: tuple[int, int, int]) -> bool:
    """Whether a network takes images of one size only; True if that cannot be found without memory for the weights.

    Args:
        build: Builds the network.
        image_shape: Channels, height and width that it takes.
    """
    channels, height, width = image_shape
    try:
        with torch.device("meta"), torch.no_grad():
            network = build().eval()
            for factor in (1, 2):
                network(torch.zeros(1, channels, factor * height, factor * width))
    except Exception:  # each network checks sizes in its own way
        return True
    return False
