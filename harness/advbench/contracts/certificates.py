"""Checks of certificates."""

from __future__ import annotations

import torch

from advbench.api import Certificate, ContractError
from advbench.api.devices import widest_float

__all__ = ["check_certificate"]


def check_certificate(label: str, returned: object, images: torch.Tensor) -> Certificate:
    """Checks the form of the certificates of a batch.

    Args:
        label: What messages call the component.
        returned: What it returned.
        images: The images that it got.

    Returns:
        The classes as int64 and the radii as float64.

    Raises:
        ContractError: A check failed.
    """
    count = len(images)
    if not isinstance(returned, Certificate):
        raise ContractError(f"{label} returned {type(returned).__name__} from certify(); expected a Certificate")
    classes: object = returned.classes
    radii: object = returned.radii
    if not isinstance(classes, torch.Tensor) or classes.dtype != torch.int64 or tuple(classes.shape) != (count,):
        raise ContractError(f"{label} returned certified classes that are no int64 tensor of shape ({count},)")
    if bool((classes < -1).any()):
        raise ContractError(f"{label} returned certified classes below -1; -1 abstains")
    floating = isinstance(radii, torch.Tensor) and radii.is_floating_point()
    if not isinstance(radii, torch.Tensor) or not floating or tuple(radii.shape) != (count,):
        raise ContractError(f"{label} returned radii that are no floating-point tensor of shape ({count},)")
    if not bool((radii >= 0).all() & radii.isfinite().all()):
        raise ContractError(f"{label} returned radii that are negative, NaN or infinite; use class -1 to abstain")
    return Certificate(classes, radii.to(widest_float(radii.device)))
