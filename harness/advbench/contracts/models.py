"""What models return, held to its contract."""

from __future__ import annotations

import torch

from advbench.api import ContractError

__all__ = ["are_probabilities", "check_logits"]

_SUMS = ((8, 1e-2), (2, 1e-4), (1, 2e-6), (0, 0.0))
"""By how many images at least, how near to 1 in sum are numbers of at least 0 that are taken for probabilities.

Those of a softmax in bfloat16 add up to 1 within 4e-3; a single image's logits may do so nearly by chance.
"""


def check_logits(
    name: str, logits: object, count: int, classes: int, *, more: bool = False, labels_only: bool = False
) -> torch.Tensor:
    """Holds a model's output to its contract: finite logits of shape (batch, classes), and no probabilities.

    Args:
        name: The model's name.
        logits: What it returned.
        count: How many images it was given.
        classes: How many classes it knows.
        more: Whether there may be more of them.
        labels_only: Whether the largest of each row is all that counts, so that whole numbers and probabilities serve.

    Returns:
        Floating-point numbers, shape (batch, classes).

    Raises:
        ContractError: It breaks it.
    """
    label = f"model {name!r}"
    if not isinstance(logits, torch.Tensor):
        raise ContractError(f"{label} returned {type(logits).__name__}, not a tensor of logits")
    if logits.is_complex() or not (logits.is_floating_point() or labels_only):
        raise ContractError(f"{label} returned {logits.dtype}; logits are floating-point numbers, such as float32")
    fits = logits.ndim == 2 and len(logits) == count
    if not fits or (logits.shape[1] < classes if more else logits.shape[1] != classes):
        least = ", or more classes" if more else ""
        raise ContractError(f"{label} returned shape {tuple(logits.shape)}; expected {(count, classes)}{least}")
    if not bool(torch.isfinite(logits).all()):
        raise ContractError(f"{label} returned logits that are not finite")
    if labels_only:
        return logits if logits.is_floating_point() else logits.to(torch.float32)
    if are_probabilities(logits):
        raise ContractError(
            f"{label} returned probabilities, which hide gradients from attacks; the contract is logits: "
            "leave the softmax out, or use attacks that need labels alone, such as noise or "
            "foolbox:attack=HopSkipJumpAttack"
        )
    return logits


def are_probabilities(logits: torch.Tensor) -> bool:
    """Whether numbers of shape (batch, classes) are at least 0 and add up to 1, as labels in one-hot form do, too."""
    near = next(error for least, error in _SUMS if len(logits) >= least)
    return bool((logits >= 0).all() & ((logits.sum(dim=1) - 1).abs() < near).all())
