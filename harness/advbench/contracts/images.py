"""Checks of any images: form, unchanged inputs, distances."""

from __future__ import annotations

import torch

from advbench.api import Budget, ContractError
from advbench.api import perturbation as sets
from advbench.api.perturbation import TOLERANCE

__all__ = ["TOLERANCE", "check_form", "check_unchanged", "distances"]


def check_form(
    label: str, reference: torch.Tensor, images: object, image_shape: tuple[int, ...] | None = None
) -> torch.Tensor:
    """Checks that images are a finite float32 tensor with a reference's shape and device.

    Args:
        label: What messages call the component that returned the images.
        reference: The images that it got.
        images: What it returned.
        image_shape: The expected shape of one image; None for that of the reference.

    Returns:
        The images, detached.

    Raises:
        ContractError: They are not; the message begins with the label.
    """
    if not isinstance(images, torch.Tensor):
        raise ContractError(f"{label} returned {type(images).__name__}, not a tensor")
    expected = tuple(reference.shape) if image_shape is None else (len(reference), *image_shape)
    if tuple(images.shape) != expected:
        raise ContractError(f"{label} returned shape {tuple(images.shape)}; expected {expected}")
    if images.dtype != torch.float32:
        raise ContractError(f"{label} returned {images.dtype}; images are torch.float32")
    if images.device != reference.device:
        raise ContractError(f"{label} returned images on {images.device}; they were given on {reference.device}")
    if not bool(torch.isfinite(images).all()):
        bad = int((~torch.isfinite(images)).flatten(1).any(dim=1).sum())
        raise ContractError(f"{label} returned NaN or infinite pixels in {bad} of {len(images)} images")
    return images.detach()


def check_unchanged(label: str, what: str, before: torch.Tensor, after: torch.Tensor) -> None:
    """Raises ContractError if a component changed its input."""
    if not torch.equal(before, after):
        raise ContractError(f"{label} changed its input {what} in place; components work on a copy")


def distances(clean: torch.Tensor, other: torch.Tensor, budget: Budget) -> torch.Tensor:
    """Distance of each image from its clean one in the budget's norm: float64, shape (batch,)."""
    return sets.distances(clean, other, budget.norm)
