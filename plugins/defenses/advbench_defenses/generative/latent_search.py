"""The search of latent vectors whose images are nearest to given ones."""

from __future__ import annotations

import torch

from advbench_defenses.generative.generator import LATENT, Generator

__all__ = ["LATENT", "nearest_latents", "squared_errors"]

STEP_SIZE = 0.03
"""Step size for the sum of the squared errors of an image; falls tenfold for the last fifth of the steps."""
MOMENTUM = 0.7
LAST_SHARE = 0.2

ROWS, ACCELERATOR_ROWS = 20, 2000
"""Latent vectors of a block on a CPU, whose cache activations should fit into, and elsewhere.

Every block has this size: matrix products of other sizes may round differently.
"""


def squared_errors(generated: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """The sum of the squared errors of each image, shape (batch,)."""
    return (generated - images).square().flatten(1).sum(dim=1)


def nearest_latents(generator: Generator, images: torch.Tensor, starts: torch.Tensor, steps: int) -> torch.Tensor:
    """Minimises ‖G(z) − x‖² by gradient descent with momentum from each start, and returns the best ends.

    Gradients are computed even if the caller has turned them off.

    Args:
        generator: The generator, in eval mode and without parameters that require gradients.
        images: Shape (batch, 1, 28, 28).
        starts: The latent vectors of the starts, shape (batch, restarts, 64).
        steps: Steps of gradient descent.

    Returns:
        Latent vectors, shape (batch, 64), without a gradient.
    """
    batch, restarts = starts.shape[:2]
    rows = ROWS if images.device.type == "cpu" else ACCELERATOR_ROWS
    with torch.inference_mode(mode=False), torch.enable_grad():
        latents = starts.detach().flatten(0, 1).clone()
        targets = images.detach().clone().repeat_interleave(restarts, dim=0)
        missing = -len(latents) % rows
        latents = torch.cat((latents, latents.new_zeros(missing, LATENT)))
        targets = torch.cat((targets, targets.new_zeros(missing, *targets.shape[1:])))
        blocks = [
            _descended(generator, target, latent, steps)
            for target, latent in zip(torch.split(targets, rows), torch.split(latents, rows), strict=True)
        ]
    found = torch.cat([latent for latent, _ in blocks])[: batch * restarts].reshape(batch, restarts, LATENT)
    errors = torch.cat([error for _, error in blocks])[: batch * restarts].reshape(batch, restarts)
    best: torch.Tensor = found[torch.arange(batch, device=found.device), errors.argmin(dim=1)]
    return best


def _descended(
    generator: Generator, images: torch.Tensor, latents: torch.Tensor, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The latent vectors after the descent, and their squared errors."""
    velocity = torch.zeros_like(latents)
    for step in range(steps):
        latents.requires_grad_()
        (gradient,) = torch.autograd.grad(squared_errors(generator(latents), images).sum(), latents)
        size = STEP_SIZE if step < (1 - LAST_SHARE) * steps else STEP_SIZE / 10
        velocity = MOMENTUM * velocity - size * gradient
        latents = latents.detach() + velocity
    with torch.no_grad():
        return latents, squared_errors(generator(latents), images)
