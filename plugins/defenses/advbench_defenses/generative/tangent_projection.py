"""The gradient of Defense-GAN: images move along the tangent spaces of the images that a generator makes."""

from __future__ import annotations

import torch

from advbench_defenses.generative.generator import Generator

__all__ = ["project_on_tangents"]

DAMPING = 0.1
"""The number that is added to the squared singular values of the Jacobian."""


def project_on_tangents(generator: Generator, latents: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """G(z) + J (JᵀJ + λI)⁻¹ Jᵀ (x − x₀), where x₀ are the values of the images x, and J the Jacobian of G at z.

    If z minimises ‖G(z) − x‖² and x moves, the nearest G(z) moves by J (JᵀJ)⁻¹ Jᵀ times that, as long as the manifold
    of the generator's images is flat. The damping keeps out directions in which gradient descent makes no progress.

    Args:
        generator: The generator.
        latents: The latent vectors z, shape (batch, 64).
        images: The images x, shape (batch, channels, height, width).

    Returns:
        G(z), with the gradient of this projection to ``images``.
    """
    with torch.no_grad():
        jacobians = generator.jacobians(latents)
        output: torch.Tensor = generator(latents)
        products = jacobians.mT @ jacobians
        damped = products + DAMPING * torch.eye(products.shape[-1], device=products.device)
        coefficients = torch.linalg.solve(damped, jacobians.mT)
    moves = (images - images.detach()).flatten(1)[:, :, None]
    moved: torch.Tensor = (jacobians @ (coefficients @ moves)).reshape(output.shape)
    return output + moved
