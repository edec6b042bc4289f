"""The networks of Defense-GAN: the generator, and the discriminator that it is trained against."""

from __future__ import annotations

import functools

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

__all__ = ["LATENT", "Discriminator", "Generator"]

LATENT = 64
"""Numbers of a latent vector."""

_SIDE = 28
_WIDE, _NARROW = 128, 32
_SLOPE = 0.2
"""Slope of the leaky ReLU below 0."""


class Generator(nn.Module):
    """Maps latent vectors, shape (batch, 64), to images in [0, 1], shape (batch, 1, 28, 28).

    Args:
        normalise: Whether batch normalisation follows the first two layers, as in training; :meth:`folded` removes it.
    """

    def __init__(self, *, normalise: bool = False) -> None:
        super().__init__()
        quarter = _SIDE // 4
        self.first = nn.Linear(LATENT, _WIDE * quarter**2)
        self.second = nn.ConvTranspose2d(_WIDE, _NARROW, 4, stride=2, padding=1)
        self.last = nn.ConvTranspose2d(_NARROW, 1, 4, stride=2, padding=1)
        self.norms = nn.ModuleList()
        if normalise:
            self.norms.extend([nn.BatchNorm1d(self.first.out_features), nn.BatchNorm2d(_NARROW)])

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Generates images."""
        values = self._normalised(0, self.first(latents)).relu()
        values = values.reshape(-1, _WIDE, _SIDE // 4, _SIDE // 4)
        values = self._normalised(1, self.second(values)).relu()
        images: torch.Tensor = self.last(values)
        return images.sigmoid()

    @torch.no_grad()
    def jacobians(self, latents: torch.Tensor) -> torch.Tensor:
        """The derivatives of all pixels by all latent numbers, without batch normalisation.

        Args:
            latents: Shape (batch, 64).

        Returns:
            Shape (batch, pixels, 64).
        """
        found = []
        convolve = functools.partial(functional.conv_transpose2d, stride=2, padding=1)
        for latent in latents:
            values = self.first(latent)
            moves = (self.first.weight.T * (values > 0)).reshape(-1, _WIDE, _SIDE // 4, _SIDE // 4)
            values = self.second(values.relu().reshape(1, *moves.shape[1:]))
            moves = convolve(moves, self.second.weight) * (values > 0)
            image = self.last(values.relu()).sigmoid()
            moves = convolve(moves, self.last.weight) * (image * (1 - image))
            found.append(moves.flatten(1).T)
        return torch.stack(found)

    @torch.no_grad()
    def folded(self) -> Generator:
        """A generator without batch normalisation that generates what this one does in eval mode."""
        other = Generator().to(self.first.weight.device).eval()
        other.load_state_dict({key: value for key, value in self.state_dict().items() if not key.startswith("norms")})
        if self.norms:
            flat, square = (norm.eval() for norm in self.norms)
            assert isinstance(flat, nn.BatchNorm1d)
            assert isinstance(square, nn.BatchNorm2d)
            other.first = fuse_linear_bn_eval(other.first, flat)
            other.second = fuse_conv_bn_eval(other.second, square, transpose=True)
        return other

    def _normalised(self, index: int, values: torch.Tensor) -> torch.Tensor:
        normalised: torch.Tensor = self.norms[index](values) if self.norms else values
        return normalised


class Discriminator(nn.Module):
    """Maps images, shape (batch, 1, 28, 28), to logits of being real, shape (batch,)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.LeakyReLU(_SLOPE),
            nn.Flatten(),
            nn.Linear(64 * (_SIDE // 4) ** 2, 128),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(128, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Judges images."""
        logits: torch.Tensor = self.layers(images)
        return logits.squeeze(1)
