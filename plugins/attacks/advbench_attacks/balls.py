"""The ball around its clean image in which a budget attack moves each sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from advbench.api import Norm, SampleRandom
from advbench_attacks.input_gradients import each
from advbench_attacks.minimal_steps import size, unit

__all__ = ["Ball"]


@dataclass(frozen=True)
class Ball:
    """All points within eps of an image, and within [0, 1].

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: The radius.
    """

    norm: Norm
    eps: float

    def project(self, points: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Points brought back into the balls around these images, both of one shape.

        In L2 they are first brought within eps, then clipped to [0, 1], which brings them no further from the image.
        """
        return self.at(points - images, images)

    def project_(self, points: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """As :meth:`project`, but in L∞ in place, so that no memory is taken at a step."""
        if self.norm == "linf":
            return points.sub_(images).clamp_(-self.eps, self.eps).add_(images).clamp_(0, 1)  # rounds as Foolbox does
        return self.project(points, images)

    def at(self, changes: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """The images with these changes, brought back into the balls around them."""
        if self.norm == "linf":
            changes = changes.clamp(-self.eps, self.eps)
        else:
            tiny = torch.finfo(changes.dtype).tiny
            changes = changes * each((self.eps / size(changes, "l2").clamp(min=tiny)).clamp(max=1))
        return (images + changes).clamp(0, 1)

    def start(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Random points: in L∞ uniform in the ball, in L2 at distance eps in a uniform direction, clipped to [0, 1]."""
        shape = images.shape[1:]
        if self.norm == "linf":
            return self.at(rng.uniform(*shape, low=-self.eps, high=self.eps).to(images), images)
        return self.at(self.eps * unit(rng.normal(*shape).to(images)), images)

    def steepest(self, gradient: torch.Tensor) -> torch.Tensor:
        """The step of size 1 along which a loss with this gradient rises most: its signs, or it at L2 norm 1."""
        return gradient.sign() if self.norm == "linf" else unit(gradient)
