"""The error of a classifier whose logits have no gradient, which only attacks that follow gradients need."""

from __future__ import annotations

from advbench.api import ContractError

__all__ = ["MissingGradientError"]


class MissingGradientError(ContractError):
    """The logits have no gradient to the images. Attacks that follow no gradients can go on."""
