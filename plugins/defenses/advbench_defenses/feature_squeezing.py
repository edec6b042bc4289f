"""Feature squeezing: rejects images whose prediction changes when they are simplified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from advbench.api import Detector, ParameterError, param, widest_float
from advbench_defenses.non_local_means import non_local_means
from advbench_defenses.transformations.median_filter import median_filter
from advbench_defenses.transformations.rounding import soft_rounding

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["FeatureSqueezing"]

_GREY_BITS, _COLOUR_BITS = 1, 5
_COLOUR_STRENGTH = 2.0


@dataclass(frozen=True)
class FeatureSqueezing(Detector):
    """Compares the model's probabilities for an image with those for squeezed copies of it.

    The copies have fewer grey levels, a median filter, or non-local means. The suspicion is the largest L1 distance
    between the probabilities of the image and of a copy (section V-B). The defaults are the paper's best ones: 1 bit
    and a median of 2×2 for images with one channel (MNIST); 5 bits, a median of 2×2 and non-local means 13-3-2 for
    colour (CIFAR-10).

    Non-local means average the channels' squared differences in RGB, where the paper's OpenCV treats lightness and
    colour separately. In the backward pass, fewer bits have the gradient of a soft rounding, and non-local means that
    of the identity.

    Args:
        fpr: False positive rate: the share of clean images that are rejected.
        bits: Bits of a value; 0 for no such copy. The default is 1 for one channel, and 5 for colour.
        median: Side of the median's window in pixels; 1 for no such copy.
        strength: Filter strength of non-local means in 1/255; 0 for no such copy. The default is 0 for one channel, and
            2 for colour.
        search: Side of the window in which non-local means search, in pixels; odd.
        patch: Side of the patches that they compare, in pixels; odd.
    """

    name = "feature-squeezing"
    self_contained = True
    source = "Xu, Evans and Qi 2018, Feature Squeezing: Detecting Adversarial Examples in Deep Neural Networks"
    bits: int | None = param(None, min=0, max=8, help="bits of a value, 0 for none; by default 1, or 5 for colour")
    median: int = param(2, min=1, max=15, help="side of the median's window in pixels, 1 for none")
    strength: float | None = param(
        None, min=0, max=255, help="strength of non-local means in 1/255, 0 for none; by default 0, or 2 for colour"
    )
    search: int = param(13, min=3, max=51, help="side of the search window of non-local means in pixels; odd")
    patch: int = param(3, min=1, max=15, help="side of the patches of non-local means in pixels; odd")

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: A window has no middle pixel, or no copy is left.
        """
        super().__post_init__()
        for name in ("search", "patch"):
            if getattr(self, name) % 2 == 0:
                raise ParameterError(
                    f"{name}={getattr(self, name)}: must be odd, so that the square has a middle pixel"
                )
        if self.bits == 0 and self.median == 1 and self.strength == 0:
            raise ParameterError("bits=0, median=1, strength=0: leaves no copy to compare with; set one of them")

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Windows that are larger than the images."""
        _, height, width = image_shape
        largest = max(self.median, self.search + self.patch if self._strength(image_shape[0]) else 1)
        if min(height, width) < largest // 2:
            return f"{self.name}: a window of {largest} pixels is too large for images of {height}×{width}"
        if self.bits == 0 and self.median == 1 and not self._strength(image_shape[0]):
            return f"{self.name}: bits=0 and median=1 leave no copy of images with one channel to compare with"
        return ""

    def suspicion(self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """The largest L1 distance between the probabilities of the images and of their squeezed copies."""
        del rng
        wide = widest_float(images.device)
        own = network(images).to(wide).softmax(dim=1)
        distances = [(own - network(copy).to(wide).softmax(dim=1)).abs().sum(dim=1) for copy in self.squeezed(images)]
        return torch.stack(distances).amax(dim=0).float()

    def squeezed(self, images: torch.Tensor) -> Iterator[torch.Tensor]:
        """The squeezed copies of a batch, each of its shape and connected to it in the autograd graph."""
        channels = images.shape[1]
        bits = (_GREY_BITS if channels == 1 else _COLOUR_BITS) if self.bits is None else self.bits
        if bits:
            levels = 2**bits - 1
            yield _with_gradient((images.detach() * levels).round() / levels, soft_rounding(images, levels))
        if self.median > 1:
            yield median_filter(images, self.median)
        strength = self._strength(channels)
        if strength:
            yield _with_gradient(non_local_means(images.detach(), strength / 255, self.search, self.patch), images)

    def _strength(self, channels: int) -> float:
        if self.strength is not None:
            return self.strength
        return 0.0 if channels == 1 else _COLOUR_STRENGTH


def _with_gradient(values: torch.Tensor, approximation: torch.Tensor) -> torch.Tensor:
    """These values, with the gradient of an approximation."""
    return values + (approximation - approximation.detach())
