"""Selects samples by what a network answered, with few waits for an accelerator.

An accelerator runs behind the program. ``values[mask]`` waits for it, because the size of the result depends on the
mask; so does ``if mask.any()``. The functions here wait once where samples leave an attack, and not at all where some
samples take new values. On the CPU nothing waits, and they touch the chosen samples alone.
"""

from __future__ import annotations

import torch

__all__ = ["on_device", "split", "store_where"]


def split(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Splits samples by a mask with at most one wait.

    Args:
        mask: bool, shape (samples,).

    Returns:
        The positions where the mask is true, and where it is false, in ascending order; int64, on the mask's device.
    """
    if mask.device.type == "cpu":
        return mask.nonzero().flatten(), (~mask).nonzero().flatten()
    order = mask.to(torch.uint8).argsort(stable=True)
    others = len(mask) - int(mask.sum())
    return order[others:], order[:others]


def store_where(
    chosen: torch.Tensor, rows: torch.Tensor | None, *pairs: tuple[torch.Tensor, torch.Tensor | float]
) -> None:
    """Does ``target[rows[chosen]] = values[chosen]`` for pairs of targets and values, without waiting.

    Args:
        chosen: Which samples get new values; bool, shape (samples,).
        rows: Their positions in the targets, without duplicates; None for 0, 1, 2 and so on.
        pairs: Targets, which are changed in place, and values whose first dimension runs over the samples, or one
            number for all.
    """
    if chosen.device.type == "cpu":
        places = chosen.nonzero().flatten()
        selected = places if rows is None else rows[places]
        for target, values in pairs:
            target[selected] = values[places] if isinstance(values, torch.Tensor) else values
        return
    for target, values in pairs:
        present = target if rows is None else target[rows]
        updated = torch.where(chosen.reshape(-1, *[1] * (target.ndim - 1)), values, present)
        if rows is None:
            target.copy_(updated)
        else:
            target[rows] = updated


def on_device(indices: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Copies indices from the CPU to the device of another tensor without waiting."""
    return indices.to(like.device, non_blocking=like.device.type != "mps")
