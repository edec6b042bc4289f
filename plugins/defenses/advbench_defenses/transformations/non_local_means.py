"""Non-local means as a defense."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from advbench.api import Defense, ParameterError, param
from advbench_defenses.identity_approximation import identity_approximation
from advbench_defenses.non_local_means import non_local_means

if TYPE_CHECKING:
    from collections.abc import Callable

    from advbench.api import SampleRandom

__all__ = ["NonLocalMeans"]


@dataclass(frozen=True)
class NonLocalMeans(Defense):
    """Replaces each pixel by a mean of the pixels whose surroundings are alike.

    The squared differences of the channels are averaged in RGB, where the paper's OpenCV treats lightness and colour
    separately.

    Args:
        strength: Filter strength in 1/255; larger values smooth more, and 0 returns the image unchanged.
        search: Side of the window in which similar pixels are searched, in pixels; odd.
        patch: Side of the squares that are compared, in pixels; odd.
    """

    name = "non-local-means"
    self_contained = True
    source = (
        "Xu, Evans and Qi 2018, Feature Squeezing, section III.B (13-3-2 for CIFAR-10); Buades, Coll and Morel 2005, A "
        "Non-Local Algorithm for Image Denoising"
    )
    strength: float = param(2.0, min=0, max=255, help="filter strength in 1/255; 0 for no filter")
    search: int = param(13, min=3, max=51, help="side of the search window in pixels; odd")
    patch: int = param(3, min=1, max=15, help="side of the compared squares in pixels; odd")

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: A window has no middle pixel.
        """
        super().__post_init__()
        for name in ("search", "patch"):
            if getattr(self, name) % 2 == 0:
                raise ParameterError(
                    f"{name}={getattr(self, name)}: must be odd, so that the square has a middle pixel"
                )

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Windows that reach farther out than the image is wide."""
        _, height, width = image_shape
        reach = self.search // 2 + self.patch // 2
        if min(height, width) <= reach:
            return (
                f"{self.name}: search={self.search} with patch={self.patch} takes images of at least "
                f"{reach + 1} pixels, not {height}×{width}"
            )
        return ""

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the means."""
        del rng
        return self._filtered(images.detach(), images.detach())

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the means with fixed weights: the linear filter that the true output is the result of."""
        del rng
        return self._filtered(images, images.detach())

    def approximations(self) -> tuple[Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor], ...]:
        """Returns the means with fixed weights, and the identity."""
        return (self.approximation_from_output, identity_approximation)

    def _filtered(self, images: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
        if not self.strength:
            return images
        return non_local_means(images, self.strength / 255, self.search, self.patch, guide=guide)
