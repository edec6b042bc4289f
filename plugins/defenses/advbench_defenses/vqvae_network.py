"""The vector-quantised autoencoder: latent vectors of a convolutional autoencoder become entries of a codebook."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

__all__ = ["STRAIGHT_THROUGH_SHARE", "Quantised", "ResidualBlock", "VectorQuantiser", "VqVaeNetwork"]

STRAIGHT_THROUGH_SHARE = 0.1
"""The share of the straight-through gradient that is added to that of a soft assignment.

Where one code word is much nearer than all others, the soft assignment alone has no gradient.
"""


class Quantised(NamedTuple):
    """Latent vectors and the code words that replace them.

    Attributes:
        vectors: The encoder's vectors, float32, shape (batch · h · w, hidden).
        words: The nearest code words, of the same shape; their gradient flows to the codebook.
        codes: Indices of these words, int64, shape (batch · h · w,).
    """

    vectors: torch.Tensor
    words: torch.Tensor
    codes: torch.Tensor


class ResidualBlock(nn.Module):
    """ReLU, 3×3, BN, ReLU, 1×1, BN, added to its input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel_size=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns a tensor of the same shape."""
        added: torch.Tensor = inputs + self.block(inputs)
        return added


class VectorQuantiser(nn.Module):
    """A codebook of ``words`` vectors; each latent vector is replaced by the nearest in L2."""

    def __init__(self, words: int, hidden: int) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.empty(words, hidden).uniform_(-1 / words, 1 / words))

    def forward(self, latents: torch.Tensor) -> Quantised:
        """Quantises latents of shape (batch, hidden, h, w)."""
        vectors = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1]).float()
        with torch.no_grad(), torch.autocast(latents.device.type, enabled=False):
            # A vector's own squared norm shifts all of its distances equally, so it is left out.
            distances = torch.addmm(self.codebook.square().sum(1), vectors, self.codebook.t(), alpha=-2)
            codes = distances.argmin(1)
        return Quantised(vectors, self.codebook[codes], codes)

    def soft_words(self, vectors: torch.Tensor, temperature: float) -> torch.Tensor:
        """Returns the mean of the code words c, weighted by softmax(−‖v − c‖²/T), for each vector v.

        Args:
            vectors: float32, shape (vectors, hidden).
            temperature: T.
        """
        distances = torch.addmm(self.codebook.square().sum(1), vectors, self.codebook.t(), alpha=-2)
        return (-distances / temperature).softmax(dim=1) @ self.codebook


class VqVaeNetwork(nn.Module):
    """Reconstructs images in [0, 1], shape (batch, channels, height, width); 4.9 million parameters.

    Height and width must be multiples of 4; the latents have a quarter of each.

    Args:
        channels: Colour channels of the images.
        hidden: Channels of every layer, and the length of a code word.
        words: Size of the codebook.
    """

    def __init__(self, channels: int, hidden: int = 256, words: int = 512) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, hidden, kernel_size=4, stride=2, padding=1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, kernel_size=4, stride=2, padding=1),
            ResidualBlock(hidden),
            ResidualBlock(hidden),
        )
        self.quantiser = VectorQuantiser(words, hidden)
        self.decoder = nn.Sequential(
            ResidualBlock(hidden),
            ResidualBlock(hidden),
            nn.ReLU(),
            nn.ConvTranspose2d(hidden, hidden, kernel_size=4, stride=2, padding=1),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.ConvTranspose2d(hidden, channels, kernel_size=4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstructs images; the gradient is straight-through at the quantisation (section 3.2)."""
        return self.reconstruct(images)[0]

    def reconstruct(self, images: torch.Tensor, temperature: float | None = None) -> tuple[torch.Tensor, Quantised]:
        """Returns reconstructions in [0, 1], of the images' shape, and the quantised latents.

        Args:
            images: Shape (batch, channels, height, width).
            temperature: If given, the gradient at the quantisation is that of a soft assignment, see
                :meth:`VectorQuantiser.soft_words`, and a share of the straight-through one. It changes no value.
        """
        latents = self.encode(images)
        quantised = self.quantiser(latents)
        passed = quantised.vectors + (quantised.words - quantised.vectors).detach()
        if temperature is not None and passed.requires_grad:
            soft = self.quantiser.soft_words(quantised.vectors, temperature)
            gradient = soft + STRAIGHT_THROUGH_SHARE * quantised.vectors
            passed = passed.detach() + (gradient - gradient.detach())
        batch, hidden, height, width = latents.shape
        return self.decode(passed.reshape(batch, height, width, hidden).permute(0, 3, 1, 2)), quantised

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Encodes images in [0, 1] to latents, shape (batch, hidden, height / 4, width / 4), before quantisation."""
        latents: torch.Tensor = self.encoder(images * 2 - 1)
        return latents

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decodes latents to images in [0, 1]."""
        images: torch.Tensor = (self.decoder(latents).float() + 1) / 2
        return images
