"""The preprocessing of a library as a part of the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from advbench.api import SampleRandom, UsageError
from advbench_models.normalised import Normalised
from advbench_models.pretrained.geometry import INTERPOLATIONS, Geometry

__all__ = ["RESIZE", "RESIZE_HELP", "Pipeline", "Preprocessed", "Preprocessing", "measured"]

Pipeline = Callable[[Any], torch.Tensor]
"""A library's evaluation transform: a Pillow image to a tensor of shape (channels, height, width)."""

RESIZE = ("auto", "always", "never")
RESIZE_HELP = "resize and crop images: auto (those of another size than the network's), always, or never"

_PROBES = ((300, 270), (263, 301))
"""Widths and heights of the images on which a library's transform is compared with :class:`Preprocessing`."""

_PERIOD = 24.0
"""Of the waves in these images, in pixels: long for a filter, and short enough to show a shift by one pixel."""

_ROUNDING = 3 / 255
"""How much of the range of pixels the results may differ, since libraries round resized images to 8 bits."""

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Preprocessing:
    """What a library does with an image before the network.

    Attributes:
        geometry: Resizing and cropping.
        mean: Per channel of the network, for pixels in [0, 1].
        std: The same.
        order: The channel of the image that each channel of the network gets: (0, 1, 2) for RGB, (2, 1, 0) for BGR.
    """

    geometry: Geometry
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: tuple[int, ...] = (0, 1, 2)


class Preprocessed(Normalised):
    """Maps images in [0, 1] of any size to the logits of a network that expects a library's preprocessing.

    Grey images become colour images with three equal channels. For a network of one channel, colours become grey; only
    timm's networks can have one channel.

    Args:
        network: The network.
        preprocessing: What it expects.
        resize: ``auto`` takes images of the size that the network expects as they are, and resizes and crops others;
            ``always`` and ``never`` do so for all or none.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, resize: str = "auto") -> None:
        super().__init__(network, preprocessing.mean, preprocessing.std)
        self.preprocessing = preprocessing
        self.resize = resize

    def forward(self, images: torch.Tensor, rng: SampleRandom | None = None) -> torch.Tensor:
        """Preprocesses and classifies images.

        Args:
            images: float32 in [0, 1], shape (batch, 1 or 3, height, width).
            rng: Not used: the network is deterministic.
        """
        order, geometry = self.preprocessing.order, self.preprocessing.geometry
        if images.shape[1] == 1 < len(order):
            images = images.expand(-1, len(order), -1, -1)
        elif images.shape[1] == 3 and len(order) == 1:
            images = (images * images.new_tensor(_LUMA).reshape(3, 1, 1)).sum(dim=1, keepdim=True)
        if order != tuple(range(len(order))):
            images = images[:, list(order)]
        as_it_is = self.resize == "never" or (self.resize == "auto" and tuple(images.shape[2:]) == geometry.size)
        return super().forward(images if as_it_is else geometry(images), rng)


def measured(pipeline: Pipeline, geometry: Geometry, label: str, channels: int = 3) -> Preprocessing:
    """Finds the normalisation of a library's transform, and checks the whole against it.

    Images of one colour show the normalisation, whatever the library calls it: rescaling, offsets, and the order of
    channels. Two images of other sizes then show whether ``geometry`` is what the library does.

    Args:
        pipeline: The transform.
        geometry: How it resizes and crops.
        label: The model, for messages.
        channels: Of the images: 3, or 1 for a library that takes grey images.

    Raises:
        UsageError: The transform does anything else than to resize, to crop and to normalise in this way.
    """
    refusal = UsageError(
        f"{label}: its preprocessing is not a resize, a central crop and a normalisation of each channel, and cannot "
        "be made a part of the network; use torch-module with a module that includes it"
    )
    if geometry.interpolation not in INTERPOLATIONS:
        raise UsageError(f"{label}: it resizes with the filter {geometry.interpolation}, which has no gradient here")
    try:
        black = _colour(pipeline, [0] * channels)
        rows = [_colour(pipeline, [255 * (number == one) for number in range(channels)]) for one in range(channels)]
    except Exception as error:
        raise refusal from error
    slopes = torch.stack(rows, dim=1) - black[:, None]  # (channels of the network, channels of the image)
    order = tuple(slopes.abs().argmax(dim=1).tolist())
    slope = slopes.gather(1, torch.tensor(order)[:, None])[:, 0]
    others = slopes.abs().sum(dim=1) - slope.abs()
    if sorted(order) != list(range(channels)) or bool((slope <= 0).any()) or bool((others > 1e-6 * slope).any()):
        raise refusal
    result = Preprocessing(geometry, tuple((-black / slope).tolist()), tuple((1 / slope).tolist()), order)
    network = Preprocessed(nn.Identity(), result, "always")
    for width, height in _PROBES:
        wave = _wave(width, height, channels)
        expected = pipeline(_picture(wave))[None].double()
        pixels = torch.from_numpy(wave).float().permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            found = network(pixels).double()
        if found.shape != expected.shape:
            raise refusal
        if bool(((found - expected).abs() / slope.reshape(-1, 1, 1) > _ROUNDING).any()):
            raise refusal
    return result


def _colour(pipeline: Pipeline, colour: list[int]) -> torch.Tensor:
    """The transform's output for an image of one colour, float64, shape (channels,)."""
    result = pipeline(_picture(np.full((256, 256, len(colour)), colour, dtype=np.uint8))).double()
    return result[:, result.shape[1] // 2, result.shape[2] // 2]


def _wave(width: int, height: int, channels: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """An image with another wave in each channel, uint8, shape (height, width, channels)."""
    rows, columns = np.mgrid[:height, :width] * (2 * np.pi / _PERIOD)
    waves = [np.sin(rows + number) * np.cos(columns - number) for number in range(channels)]
    return np.round(127.5 + 127 * np.stack(waves, axis=-1)).astype(np.uint8)


def _picture(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Any:
    from PIL import Image

    return Image.fromarray(pixels if pixels.shape[2] > 1 else pixels[:, :, 0])
