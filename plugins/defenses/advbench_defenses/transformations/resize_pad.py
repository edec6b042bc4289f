"""Random resizing and padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from advbench.api import Defense, ParameterError, param
from advbench_defenses.transformations.pixels import take_pixels

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["ResizeAndPad"]

LARGE = 96 * 96
"""Images of this many pixels and more are resized one after the other on a CPU; smaller ones in one batch."""


@dataclass(frozen=True)
class ResizeAndPad(Defense):
    """Resizes each image to a random size, and pads it with zeros at random to a fixed size.

    The height is drawn from all whole numbers from ``smallest`` to ``largest`` times that of the image, and the width
    is scaled with it. Pixels are repeated or left out (nearest neighbour), as in the paper.

    By default, images become smaller and keep their size with the padding, so that every model can classify them. The
    paper enlarges images of 299 pixels to up to 330, padded to 331: ``smallest=1.037,largest=1.104,output=331``, with
    a model that takes images of this size.

    Args:
        smallest: Smallest size, as a factor.
        largest: Largest size, as a factor.
        output: Side of the padded images in pixels; None for the size of the image.
    """

    name = "resize-pad"
    self_contained = True
    differentiable = True
    source = (
        "Xie, Wang, Zhang, Ren and Yuille 2018, Mitigating Adversarial Effects Through Randomization, section 3 (for "
        "images of 299 pixels)"
    )
    smallest: float = param(0.875, above=0, max=8, help="smallest size, as a factor")
    largest: float = param(1.0, above=0, max=8, help="largest size, as a factor")
    output: int | None = param(None, min=1, max=4096, help="side of the padded images; none: the size of the image")

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: The smallest size is above the largest.
        """
        super().__post_init__()
        if self.smallest > self.largest:
            raise ParameterError(f"smallest={self.smallest:g}: must be at most largest={self.largest:g}")

    @property
    def stochastic(self) -> bool:
        """Whether sizes or places are drawn; not if images keep their size."""
        return not (self.smallest == self.largest == 1 and self.output is None)

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Images that may become larger than the padded ones."""
        _, height, width = image_shape
        _, high, wide = self.output_shape(image_shape)
        if int(height * self.largest) > high or int(width * self.largest) > wide:
            return (
                f"{self.name}: images of {height}×{width} do not fit into {high}×{wide} after resizing; set output to "
                f"at least {int(max(height, width) * self.largest)}"
            )
        return ""

    def output_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of the padded images."""
        return image_shape if self.output is None else (image_shape[0], self.output, self.output)

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the resized and padded images."""
        channels, height, width = images.shape[1:]
        _, high, wide = self.output_shape((channels, height, width))
        drawn = rng.uniform(3).to(images.device)
        lowest = max(1, int(height * self.smallest))
        tall = lowest + (drawn[:, 0] * (int(height * self.largest) - lowest + 1)).long()
        broad = (tall * width // height).clamp(min=1)
        top = (drawn[:, 1] * (high - tall + 1)).long()
        left = (drawn[:, 2] * (wide - broad + 1)).long()
        if images.device.type == "cpu" and height * width >= LARGE and len(images):
            boxes = torch.stack((tall, broad, top, left), dim=1).tolist()
            padded: torch.Tensor = _ResizedAndPadded.apply(images, boxes, (high, wide))
            return padded
        framed = torch.nn.functional.pad(images, (0, 1, 0, 1))  # the last row and column are the padding
        return take_pixels(framed, _sources(high, top, tall, height), _sources(wide, left, broad, width))


def _sources(length: int, start: torch.Tensor, resized: torch.Tensor, original: int) -> torch.Tensor:
    """Which row or column of the original image each one of the padded image shows; the one after the last for none."""
    places = torch.arange(length, device=start.device) - start[:, None]
    shown = (places >= 0) & (places < resized[:, None])
    # In float32, as torch's interpolation; "original / tensor" would be a product with the rounded 1 / tensor.
    sizes = resized[:, None].float()
    sources = (places.float() * (torch.full_like(sizes, original) / sizes)).long().clamp(max=original - 1)
    return torch.where(shown, sources, original)


class _ResizedAndPadded(torch.autograd.Function):
    """Resizes each image and writes it into its place, without a copy in between."""

    @staticmethod
    def forward(
        context: Any, images: torch.Tensor, boxes: list[tuple[int, int, int, int]], size: tuple[int, int]
    ) -> torch.Tensor:
        context.boxes, context.shape = boxes, images.shape
        padded = images.new_empty(*images.shape[:2], *size)
        for image, target, (tall, broad, top, left) in zip(
            torch.split(images, 1), torch.split(padded, 1), boxes, strict=True
        ):
            resized = torch.nn.functional.interpolate(image, size=(tall, broad), mode="nearest")
            target.zero_()
            target[:, :, top : top + tall, left : left + broad] = resized
        return padded

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        shape = (1, *context.shape[1:])
        parts = [
            torch.ops.aten.upsample_nearest2d_backward(
                gradient[:, :, top : top + tall, left : left + broad], (tall, broad), shape
            )
            for gradient, (tall, broad, top, left) in zip(torch.split(gradients[0], 1), context.boxes, strict=True)
        ]
        return torch.cat(parts), None, None
