"""JPEG compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from advbench.api import ContractError, Defense, param
from advbench_defenses.identity_approximation import identity_approximation
from advbench_defenses.jpeg_gradient import differentiable_jpeg
from advbench_defenses.jpeg_mosaic import recompress

if TYPE_CHECKING:
    from collections.abc import Callable

    from advbench.api import SampleRandom

__all__ = ["JpegCompression"]


@dataclass(frozen=True)
class JpegCompression(Defense):
    """Compresses each image as a JPEG file and decodes it, with Pillow.

    The image is first rounded to 8 bits. One channel is written as greyscale (Pillow's mode L), three as RGB with
    Pillow's default chroma subsampling, which is 4:2:0 at every quality. The images of a batch are encoded together;
    the result for each image is bit-identical to encoding it alone.

    Args:
        quality: JPEG quality from 1 to 100; 100 compresses least, but is not lossless.
    """

    name = "jpeg"
    self_contained = True
    source = (
        "Dziugaite, Ghahramani and Roy 2016, A Study of the Effect of JPG Compression on Adversarial Images; "
        "Guo, Rana, Cisse and van der Maaten 2018, section 4.1 (quality 75)"
    )
    depends_on = ("pillow",)
    quality: int = param(
        75, min=1, max=100, help="JPEG quality; 100 is the weakest compression (chroma subsampling is always 4:2:0)"
    )

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns JPEG in torch with a differentiable rounding; see :func:`differentiable_jpeg`."""
        del rng
        return differentiable_jpeg(images, self.quality)

    def approximations(self) -> tuple[Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor], ...]:
        """Returns the differentiable JPEG and the identity, whose gradient is better for one large step (FGSM)."""
        return (self.approximation_from_output, identity_approximation)

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Images of other than one or three channels."""
        channels = image_shape[0]
        return "" if channels in (1, 3) else f"{self.name} takes images of 1 or 3 channels, not {channels}"

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the decoded images, multiples of 1/255.

        Raises:
            ContractError: The images have neither one channel nor three.
        """
        del rng
        channels = images.shape[1]
        if channels not in (1, 3):
            raise ContractError(f"jpeg takes images of 1 or 3 channels, not {channels}")
        pixels = (images.detach().cpu() * 255).round_().clamp_(0, 255).to(torch.uint8).numpy()
        decoded = torch.from_numpy(recompress(pixels, self.quality))
        return decoded.to(images.device).to(torch.float32).div_(255)
