"""Lp norms of perturbations, and tensors at L2 norm 1."""

from __future__ import annotations

import torch

__all__ = ["l2_scale_factors", "lp_norm", "normalize_l2", "per_image"]

_ORDERS = {"l2": 2, "l1": 1}

_MIN_L2_NORM = 0.9
"""Below the L2 norm of any tensor whose largest absolute value is 1, so that only all-zero tensors are clamped."""

_MIN_SAFE_NORM = 1e-15
"""Squares neither underflow nor overflow in float32 where an L2 norm is between this and its inverse."""


def per_image(values: torch.Tensor) -> torch.Tensor:
    """Reshapes one value per sample to (batch, 1, 1, 1), to broadcast over images."""
    return values.reshape(-1, 1, 1, 1)


def lp_norm(perturbations: torch.Tensor, norm: str) -> torch.Tensor:
    """Returns the norm of each sample's perturbation, over all pixels and channels; shape (batch,)."""
    if norm == "linf":
        return perturbations.abs().flatten(1).amax(dim=1)  # several times faster than vector_norm
    norms: torch.Tensor = torch.linalg.vector_norm(perturbations.flatten(1), _ORDERS[norm], dim=1)
    return norms


def normalize_l2(perturbations: torch.Tensor) -> torch.Tensor:
    """Scales each sample's perturbation to L2 norm 1; an all-zero perturbation stays 0."""
    # Squares of tiny or huge values would underflow to 0 or overflow to infinity.
    tiny = torch.finfo(perturbations.dtype).tiny
    scaled = perturbations / per_image(lp_norm(perturbations, "linf").clamp(min=tiny))
    return scaled.div_(per_image(lp_norm(scaled, "l2").clamp(min=_MIN_L2_NORM)))


def l2_scale_factors(perturbations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns perturbations and the factors that scale each to L2 norm 1: :func:`normalize_l2` in fewer passes.

    Where a factor would be inexact or not finite, the perturbations are returned already normalized (0 where they are
    0), with factors of 1.

    Returns:
        Perturbations of the same shape, and the factors, shape (batch,).
    """
    lengths = lp_norm(perturbations, "l2")
    exact = ((lengths > _MIN_SAFE_NORM) & (lengths < 1 / _MIN_SAFE_NORM)).all()
    if perturbations.device.type != "cpu":  # more passes take less time than waiting for the device
        normalized = normalize_l2(perturbations.nan_to_num(0.0))
        return torch.where(exact, perturbations, normalized), torch.where(exact, lengths.reciprocal(), 1.0)
    if exact:
        return perturbations, lengths.reciprocal()
    return normalize_l2(perturbations.nan_to_num(0.0)), torch.ones_like(lengths)
