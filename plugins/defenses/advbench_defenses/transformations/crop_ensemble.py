"""The mean prediction for random crops of the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from advbench.api import Defense, for_rows, param, widest_float
from advbench_defenses.transformations.pixels import take_pixels

if TYPE_CHECKING:
    from advbench.api import Artefact, SampleRandom

__all__ = ["CropEnsemble"]

_VALUES = 2**14
"""About how many pixel values of each sample the network gets at once. It depends on nothing but the image's shape, so
that a sample's crops do not depend on its batch."""


@dataclass(frozen=True)
class CropEnsemble(Defense):
    """Averages the model's probabilities over random crops of the image, each enlarged to the size of the image.

    Crops have the proportions of the image, and are enlarged bilinearly. Adaptive attacks get the logits of one crop at
    each draw, averaged over the draws of EOT.

    Args:
        crops: Number of crops.
        side: Height and width of a crop, as a share of those of the image.
    """

    name = "crop-ensemble"
    self_contained = True
    needs = "scores"
    source = (
        "Guo, Rana, Cisse and van der Maaten 2018, Countering Adversarial Images using Input Transformations, section "
        "4.1 (30 crops of 90×90 from 224×224: side=0.4)"
    )
    crops: int = param(30, min=1, max=10_000, help="number of crops")
    side: float = param(0.875, above=0, max=1, help="height and width of a crop, as a share of those of the image")

    @property
    def stochastic(self) -> bool:
        """Whether crops are drawn; not if they are the whole image."""
        return self.side < 1

    def classify(
        self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom, fitted: Artefact | None = None
    ) -> torch.Tensor:
        """Returns the logarithms of the mean probabilities."""
        del fitted
        at_once = max(1, _VALUES // images.shape[1:].numel())
        total: torch.Tensor | None = None
        for done in range(0, self.crops, at_once):
            times = min(at_once, self.crops - done)
            corners = rng.uniform(times, 2).to(images.device)
            rows = torch.arange(len(images), device=images.device).repeat_interleave(times)
            logits = for_rows(network, rows)(self._cropped(images[rows], corners.flatten(0, 1)))
            new = logits.to(widest_float(logits.device)).softmax(dim=1).reshape(len(images), times, -1).sum(dim=1)
            total = new if total is None else total + new
        assert total is not None
        return (total / self.crops).clamp(min=torch.finfo(torch.float32).tiny).log().float()

    def attacked(
        self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom, fitted: Artefact | None = None
    ) -> torch.Tensor:
        """Returns the logits of one crop."""
        del fitted
        logits: torch.Tensor = network(self._cropped(images, rng.uniform(2).to(images.device)))
        return logits

    def _cropped(self, images: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
        """One crop of each image, of the image's size.

        Args:
            images: Shape (batch, channels, height, width).
            corners: Uniform numbers in [0, 1) that choose the upper left corners, shape (batch, 2).
        """
        height, width = images.shape[2:]
        high, wide = (max(1, round(size * self.side)) for size in (height, width))
        top = (corners[:, 0] * (height - high + 1)).long()
        left = (corners[:, 1] * (width - wide + 1)).long()
        rows = top[:, None] + torch.arange(high, device=images.device)
        columns = left[:, None] + torch.arange(wide, device=images.device)
        crops = take_pixels(images, rows, columns)
        return torch.nn.functional.interpolate(crops, size=(height, width), mode="bilinear", align_corners=False)
