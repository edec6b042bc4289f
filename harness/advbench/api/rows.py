"""Which samples of its batch an attack asks a model about."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import torch

__all__ = ["RowAware", "for_rows", "is_stochastic"]


@runtime_checkable
class RowAware(Protocol):
    """A classifier whose answer depends on which sample an image belongs to: it has random streams for each."""

    def for_rows(self, rows: torch.Tensor) -> torch.nn.Module:
        """This classifier, for images that belong to these rows; see :func:`for_rows`."""


def for_rows(model: torch.nn.Module, rows: torch.Tensor) -> torch.nn.Module:
    """The model, for a batch made of some of the samples that the attack was given.

    An attack whose solved samples leave the batch, or that looks at several points of a sample at once, asks
    ``for_rows(model, rows)(images)`` instead of ``model(images)``. A classifier behind a randomised defense then
    draws from those samples' own streams, so that no sample's result depends on its batch. Any other model is
    returned as it is.

    Args:
        model: The classifier that the attack was given.
        rows: Which sample each image belongs to: positions in the attack's batch, int64, shape (images,); one may
            come several times.
    """
    # Attacks ask at every step; isinstance with a protocol takes many times as long.
    return cast(RowAware, model).for_rows(rows) if hasattr(model, "for_rows") else model


def is_stochastic(model: torch.nn.Module) -> bool:
    """Whether the model stands behind a stochastic defense, so that asking twice about an image may give two answers.

    How often an attack asks such a model about a sample must not depend on the other samples of its batch. A
    wrapper with ``for_rows`` says so by an attribute ``stochastic``.
    """
    return bool(getattr(model, "stochastic", False))
