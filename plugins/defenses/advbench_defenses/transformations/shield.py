"""Shield: JPEG compression with a random quality for each block of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from advbench.api import Defense, ParameterError, param
from advbench_defenses.identity_approximation import identity_approximation
from advbench_defenses.jpeg import JpegCompression
from advbench_defenses.jpeg_gradient import differentiable_jpeg

if TYPE_CHECKING:
    from collections.abc import Callable

    from advbench.api import SampleRandom

__all__ = ["Shield"]


@dataclass(frozen=True)
class Shield(Defense):
    """Compresses the image as a JPEG file at several qualities, and takes each block of 8×8 pixels from one of them.

    This is the stochastic local quantization of the paper. Its other part, a network trained on compressed images, is
    not included. The qualities are ``lowest``, and further ones in equal steps up to ``highest``.

    Args:
        lowest: Lowest JPEG quality.
        highest: Highest JPEG quality.
        qualities: Number of qualities; a single one is ``lowest``.
        block: Side of a block in pixels.
    """

    name = "shield"
    self_contained = True
    source = (
        "Das, Shanbhogue, Chen, Hohman, Li, Chen, Kounavis and Chau 2018, Shield: Fast, Practical Defense and "
        "Vaccination for Deep Learning using JPEG Compression, section 3.3 (qualities 20, 40, 60, 80)"
    )
    depends_on = ("pillow",)
    lowest: int = param(20, min=1, max=100, help="lowest JPEG quality")
    highest: int = param(80, min=1, max=100, help="highest JPEG quality")
    qualities: int = param(4, min=1, max=20, help="number of qualities, in equal steps; with 1, it is the lowest")
    block: int = param(8, min=1, max=4096, help="side of a block in pixels")

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: The highest quality is below the lowest.
        """
        super().__post_init__()
        if self.highest < self.lowest:
            raise ParameterError(f"highest={self.highest}: must be at least lowest={self.lowest}")

    @property
    def stochastic(self) -> bool:
        """Whether there are several qualities."""
        return len(set(self._qualities)) > 1

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Images that are neither grey nor in colour."""
        channels = image_shape[0]
        return "" if channels in (1, 3) else f"{self.name} takes images of 1 or 3 channels, not {channels}"

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the compressed images."""
        versions = [JpegCompression(quality).apply(images, rng) for quality in self._qualities]
        return self._mixed(versions, rng)

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the same blocks of a differentiable JPEG; see :func:`differentiable_jpeg`."""
        return self._mixed([differentiable_jpeg(images, quality) for quality in self._qualities], rng)

    def approximations(self) -> tuple[Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor], ...]:
        """Returns the differentiable JPEG and the identity."""
        return (self.approximation_from_output, identity_approximation)

    @property
    def _qualities(self) -> list[int]:
        steps = max(1, self.qualities - 1)
        return [round(self.lowest + (self.highest - self.lowest) * step / steps) for step in range(self.qualities)]

    def _mixed(self, versions: list[torch.Tensor], rng: SampleRandom) -> torch.Tensor:
        """Takes each block from a random version; all channels of a block from the same one."""
        height, width = versions[0].shape[2:]
        rows, columns = -(-height // self.block), -(-width // self.block)
        chosen = rng.integers(0, len(versions), rows, columns).to(versions[0].device)
        chosen = chosen.repeat_interleave(self.block, 1).repeat_interleave(self.block, 2)[:, None, :height, :width]
        mixed = torch.zeros_like(versions[0])
        for number, version in enumerate(versions):
            mixed = torch.where(chosen == number, version, mixed)
        return mixed
