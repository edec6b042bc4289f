"""The network of the denoising autoencoder."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["DenoiserNetwork"]

_WIDTHS = (32, 64)


class DenoiserNetwork(nn.Module):
    """Maps images in [0, 1], shape (batch, channels, height, width), to images of the same shape in [0, 1].

    Height and width are multiples of 4. Two convolutions with stride 2 make 64 channels of a quarter of the height and
    width; two enlargements with convolutions bring them back. The first layer's answers are added to those of the
    layer before the last.

    Args:
        channels: Channels of the images.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        outer, inner = _WIDTHS
        self.first = nn.Sequential(nn.Conv2d(channels, outer, 3, padding=1), nn.ReLU())
        self.encoder = nn.Sequential(
            nn.Conv2d(outer, inner, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.ReLU(),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(inner, 4 * inner, 3, padding=1),
            nn.PixelShuffle(2),
            nn.ReLU(),
            nn.Conv2d(inner, 4 * outer, 3, padding=1),
            nn.PixelShuffle(2),
        )
        self.last = nn.Sequential(nn.ReLU(), nn.Conv2d(outer, channels, 3, padding=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Removes noise."""
        return self.logits(images).sigmoid()

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """The logits of the pixels of the restored images."""
        first = self.first(images)
        restored: torch.Tensor = self.last(self.decoder(self.encoder(first)) + first)
        return restored
