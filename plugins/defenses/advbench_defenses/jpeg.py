"""JPEG compression."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from advbench.api import ContractError, Defense, param
from advbench_defenses.jpeg_gradient import differentiable_jpeg

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["JpegCompression"]


@dataclass(frozen=True)
class JpegCompression(Defense):
    """Compresses each image as a JPEG file and decodes it again, with Pillow.

    The image is rounded to 8 bits first. One channel is written as a grey JPEG (Pillow's mode L), three as
    RGB; for the latter the chroma subsampling is Pillow's default, which is 4:2:0 at every quality.

    Args:
        quality: JPEG quality from 1 to 100; 100 compresses least, and is still not lossless.
    """

    name = "jpeg"
    source = (
        "Dziugaite, Ghahramani and Roy 2016, A Study of the Effect of JPG Compression on Adversarial Images; "
        "Guo, Rana, Cisse and van der Maaten 2018, section 4.1 (quality 75)"
    )
    depends_on = ("pillow",)
    quality: int = param(
        75, min=1, max=100, help="JPEG quality; 100 is the lightest compression (chroma subsampling 4:2:0 throughout)"
    )

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """JPEG in torch, with a rounding that has a slope; see :func:`differentiable_jpeg`."""
        del rng
        return differentiable_jpeg(images, self.quality)

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the decoded images, multiples of 1/255.

        Raises:
            ContractError: The images have neither one channel nor three.
        """
        del rng
        from PIL import Image

        channels = images.shape[1]
        if channels not in (1, 3):
            raise ContractError(f"jpeg takes images of 1 or 3 channels, not {channels}")
        values = images.detach().permute(0, 2, 3, 1).cpu().numpy()
        pixels = np.rint(values * 255).clip(0, 255).astype(np.uint8)
        decoded = np.empty_like(pixels)
        for i, image in enumerate(pixels):
            # Pillow tells the mode from the shape: (height, width) is L, (height, width, 3) is RGB.
            picture = Image.fromarray(np.ascontiguousarray(image[..., 0] if channels == 1 else image))
            file = io.BytesIO()
            picture.save(file, "JPEG", quality=self.quality)
            with Image.open(file) as read:
                decoded[i] = np.asarray(read).reshape(image.shape)
        result = torch.from_numpy(decoded.astype(np.float32) / 255)
        return result.permute(0, 3, 1, 2).contiguous().to(images.device)
