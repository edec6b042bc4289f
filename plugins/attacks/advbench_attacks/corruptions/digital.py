"""Digital artefacts: contrast, saturation, compression, resolution, distortion."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from advbench.api import SampleRandom
from advbench_attacks.corruptions.corruption import CommonCorruption
from advbench_attacks.corruptions.filters import gaussian_blur, sample_at

__all__ = ["Contrast", "ElasticTransform", "JpegArtefacts", "Pixelate", "Saturate"]

_Levels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Contrast(CommonCorruption):
    """Less contrast: differences from the mean of each channel are multiplied by the constant."""

    name: ClassVar[str] = "contrast"
    constants: ClassVar[tuple[float, ...]] = (0.75, 0.5, 0.4, 0.3, 0.15)

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Moves the values towards the means."""
        del rng
        means = images.mean(dim=(2, 3), keepdim=True)
        return torch.lerp(means, images, self._constant)


@dataclass(frozen=True)
class Saturate(CommonCorruption):
    """Another saturation of the colours: s becomes a·s + b in HSV; the constants are a and b. For colour images."""

    name: ClassVar[str] = "saturate"
    constants: ClassVar[tuple[tuple[float, float], ...]] = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))

    def misfit(self, image_shape: tuple[int, int, int], num_classes: int) -> str:
        """Refuses images without three channels."""
        del num_classes
        return "" if image_shape[0] == 3 else f"images of {image_shape[0]} channels have no saturation; it takes RGB"

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Changes the saturation and keeps hue and value; grey has the hue of red."""
        del rng
        factor, more = self._constant
        value = images.amax(dim=1, keepdim=True)
        chroma = value - images.amin(dim=1, keepdim=True)
        saturation = torch.where(value > 0, chroma / value.clamp(min=1e-12), 0.0)
        wanted = (saturation * factor + more).clamp(0, 1)
        red = torch.tensor([0.0, 1.0, 1.0]).to(images)[None, :, None, None]
        hue = torch.where(chroma > 0, (value - images) / chroma.clamp(min=1e-12), red)
        return value.addcmul(value, wanted * hue, value=-1)


@dataclass(frozen=True)
class JpegArtefacts(CommonCorruption):
    """JPEG compression; the constants are qualities. For grey and colour images."""

    name: ClassVar[str] = "jpeg-compression"
    depends_on: ClassVar[tuple[str, ...]] = ("pillow",)
    constants: ClassVar[tuple[int, ...]] = (80, 65, 58, 50, 40)

    def misfit(self, image_shape: tuple[int, int, int], num_classes: int) -> str:
        """Refuses images that are neither grey nor RGB."""
        del num_classes
        return "" if image_shape[0] in (1, 3) else f"images of {image_shape[0]} channels; JPEG takes grey and RGB"

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Compresses and decompresses each image."""
        from PIL import Image

        del rng

        def compressed(levels: _Levels) -> _Levels:
            file = io.BytesIO()
            Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0)).save(
                file, "JPEG", quality=self._constant
            )
            result = np.asarray(Image.open(file))
            return result[None] if result.ndim == 2 else result.transpose(2, 0, 1)

        return _from_levels([compressed(levels) for levels in _levels(images)], images)


@dataclass(frozen=True)
class Pixelate(CommonCorruption):
    """Fewer pixels: the image is reduced by the constant and enlarged again, averaging the area of each pixel."""

    name: ClassVar[str] = "pixelate"
    depends_on: ClassVar[tuple[str, ...]] = ("pillow",)
    constants: ClassVar[tuple[float, ...]] = (0.95, 0.9, 0.85, 0.75, 0.65)

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Resizes each channel of each image twice."""
        from PIL import Image

        del rng
        height, width = images.shape[2:]
        smaller = max(1, int(width * self._constant)), max(1, int(height * self._constant))

        def resized(levels: _Levels) -> _Levels:
            image = Image.fromarray(levels).resize(smaller, Image.Resampling.BOX)
            return np.asarray(image.resize((width, height), Image.Resampling.BOX))

        return _from_levels([np.stack([resized(channel) for channel in levels]) for levels in _levels(images)], images)


@dataclass(frozen=True)
class ElasticTransform(CommonCorruption):
    """A random affine map, and then random displacements of the pixels, smoothed with a Gaussian.

    The constants are the size of the displacements, the standard deviation of the Gaussian, and how far the three
    points of the affine map move; all as shares of the image's shorter side.
    """

    name: ClassVar[str] = "elastic-transform"
    constants: ClassVar[tuple[tuple[float, float, float], ...]] = (
        *((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    )

    def corrupt(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Maps the images, and displaces their pixels."""
        height, width = images.shape[2:]
        side = min(height, width)
        alpha, sigma, reach = (side * constant for constant in self._constant)
        rows, columns = (torch.arange(size, device=images.device).to(images) for size in (height, width))
        x, y = (grid.expand(len(images), height, width) for grid in (columns[None, None], rows[None, :, None]))
        mapped = sample_at(images, *_affine_sources(x, y, side, reach, rng), edges="mirror")
        if not alpha:
            return mapped
        moves = rng.uniform(2, height, width, low=-1, high=1).to(images)
        moves = alpha * gaussian_blur(moves, sigma, edges="reflect", truncate=3)
        return sample_at(mapped, x + moves[:, 0], y + moves[:, 1], edges="reflect")


def _affine_sources(
    x: torch.Tensor, y: torch.Tensor, side: int, reach: float, rng: SampleRandom
) -> tuple[torch.Tensor, torch.Tensor]:
    """The points that random affine maps show at x and y.

    A map takes three corners of a square in the middle of the image to these corners moved by up to ``reach`` pixels.
    """
    centre = torch.tensor([x.shape[2] // 2, x.shape[1] // 2]).to(x)
    corners = centre + (side // 3) * torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]).to(x)
    moved = corners + rng.uniform(3, 2, low=-reach, high=reach).to(x)
    ones = torch.ones(len(moved), 3, 1).to(x)
    back = torch.linalg.solve(torch.cat((moved, ones), dim=2), corners.expand_as(moved))  # (batch, 3, 2)
    points = torch.stack((x, y, torch.ones_like(x)), dim=3)
    source_x, source_y = torch.einsum("bhwk,bkc->cbhw", points, back)
    return source_x, source_y


def _levels(images: torch.Tensor) -> _Levels:
    """The images as uint8."""
    levels: _Levels = (images * 255).round().to(torch.uint8).cpu().numpy()
    return levels


def _from_levels(levels: list[_Levels], images: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.stack(levels)).to(images) / 255
