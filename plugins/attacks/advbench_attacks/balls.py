"""Lp balls around clean images, for attacks with a fixed budget."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from advbench.api import Norm, SampleRandom
from advbench_attacks.norms import lp_norm, normalize_l2, per_image

__all__ = ["Ball"]


@dataclass(frozen=True)
class Ball:
    """All points within eps of a clean image and within [0, 1].

    Attributes:
        norm: ``linf`` or ``l2``.
        eps: The radius.
    """

    norm: Norm
    eps: float

    def project(self, points: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Projects points into the balls around these images, both of one shape.

        In L2, points are first scaled to within eps of the image and then clipped to [0, 1]; clipping never increases
        the distance from the image.
        """
        return self.perturb(points - images, images)

    def project_(self, points: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Like :meth:`project`, but in place in L∞, so that a step allocates no memory."""
        if self.norm == "linf":
            return points.sub_(images).clamp_(-self.eps, self.eps).add_(images).clamp_(0, 1)  # rounds as Foolbox does
        return self.project(points, images)

    def perturb(self, perturbations: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Adds perturbations to the images and projects the results into the balls around them."""
        if self.norm == "linf":
            perturbations = perturbations.clamp(-self.eps, self.eps)
        else:
            tiny = torch.finfo(perturbations.dtype).tiny
            perturbations = perturbations * per_image(
                (self.eps / lp_norm(perturbations, "l2").clamp(min=tiny)).clamp(max=1)
            )
        return (images + perturbations).clamp(0, 1)

    def random_start(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Draws points in the ball, clipped to [0, 1]: uniform in L∞, at distance eps in a random direction in L2."""
        shape = images.shape[1:]
        if self.norm == "linf":
            return self.perturb(rng.uniform(*shape, low=-self.eps, high=self.eps).to(images), images)
        return self.perturb(self.eps * normalize_l2(rng.normal(*shape).to(images)), images)

    def steepest_direction(self, gradient: torch.Tensor) -> torch.Tensor:
        """Returns the direction of norm 1 of steepest ascent: the gradient's signs in L∞, the unit gradient in L2."""
        return gradient.sign() if self.norm == "linf" else normalize_l2(gradient)
