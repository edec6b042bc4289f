"""Checks of any images: form, unchanged inputs, distances."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch

from advbench.api import Budget, ContractError
from advbench.api import perturbation as sets
from advbench.api.perturbation import TOLERANCE
from advbench.api.rows import QueriesSpent

__all__ = ["TOLERANCE", "check_finite", "check_form", "check_unchanged", "distances", "finite_checks_together"]

_together: ContextVar[dict[tuple[str, int], torch.Tensor] | None] = ContextVar("_together", default=None)
"""How many rows of a call were not finite, at most, by message and number of rows; on an accelerator."""


@contextlib.contextmanager
def finite_checks_together() -> Iterator[None]:
    """Makes the checks of :func:`check_finite` at the end of the block, for tensors on an accelerator.

    Each check waits for the accelerator, which an attack should not do at every call of the classifier. If the block
    raises an exception, a failed check takes its place: it happened before.

    Raises:
        ContractError: A check failed.
    """
    token = _together.set({})
    try:
        yield
    except (Exception, QueriesSpent) as error:
        _raise_first(error)
        raise
    else:
        _raise_first(None)
    finally:
        _together.reset(token)


def _raise_first(cause: BaseException | None) -> None:
    together = _together.get()
    if not together:
        return
    most = torch.stack(list(together.values())).tolist()  # one wait
    for (message, count), bad in zip(together, most, strict=True):
        if bad:
            raise _not_finite(message, bad, count) from cause


def check_finite(values: torch.Tensor, message: str) -> None:
    """Checks that a tensor has no NaN and no infinity, at once or at the end of :func:`finite_checks_together`.

    Args:
        values: The first dimension runs over images.
        message: The error message, in which ``{bad}`` becomes the number of images with such values, and ``{count}``
            that of all images.

    Raises:
        ContractError: It has.
    """
    finite, together = torch.isfinite(values), _together.get()
    if values.device.type != "cpu" and together is not None:
        if len(values):
            key, bad = (message, len(values)), _rows_without(finite)
            together[key] = torch.maximum(together[key], bad) if key in together else bad
    elif not bool(finite.all()):
        raise _not_finite(message, int(_rows_without(finite)), len(values))


def _rows_without(finite: torch.Tensor) -> torch.Tensor:
    """How many rows are not finite everywhere: int64, shape ()."""
    return (~finite).reshape(len(finite), -1).any(dim=1).sum()


def _not_finite(message: str, bad: int, count: int) -> ContractError:
    return ContractError(message.replace("{bad}", str(bad)).replace("{count}", str(count)))


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
    check_finite(images, f"{label} returned NaN or infinite pixels in {{bad}} of {{count}} images")
    return images.detach()


def check_unchanged(label: str, what: str, before: torch.Tensor, after: torch.Tensor) -> None:
    """Raises ContractError if a component changed its input."""
    if not torch.equal(before, after):
        raise ContractError(f"{label} changed its input {what} in place; it must work on a copy")


def distances(clean: torch.Tensor, other: torch.Tensor, budget: Budget) -> torch.Tensor:
    """Distance of each image from its clean one in the budget's norm: float64, shape (batch,)."""
    return sets.distances(clean, other, budget.norm)
