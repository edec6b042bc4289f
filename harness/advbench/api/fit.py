"""Fits: what a component learns from images that the run does not attack."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from advbench.api.parameters import artefact_file_param

if TYPE_CHECKING:
    import torch

    from advbench.api.component import Component

__all__ = ["Artefact", "FitData", "artefact_file_of", "artefact_param"]

Artefact: TypeAlias = "Mapping[str, torch.Tensor | float | str]"
"""What a component has fitted to data: tensors, numbers and texts by name."""


@dataclasses.dataclass(frozen=True, eq=False)
class FitData:
    """The images to which a component is fitted; none of them is a sample of the run.

    Attributes:
        read: Returns the images at some places, as :meth:`images` does.
        labels: True labels, int64, shape (n,).
        ids: The samples' ids in their dataset, int64, shape (n,).
    """

    read: Callable[[torch.Tensor], torch.Tensor]
    labels: torch.Tensor
    ids: torch.Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def images(self, places: torch.Tensor) -> torch.Tensor:
        """The images at some places, from 0 to n - 1.

        Args:
            places: Indices into ``labels`` and ``ids``, int64, shape (m,), in any order; they may repeat.

        Returns:
            float32 in [0, 1], shape (m, channels, height, width); a copy.
        """
        return self.read(places)


def artefact_param() -> str | None:
    """Declares the parameter ``file`` of a component that can be fitted. Use it as the default of a dataclass field.

    The component then takes its artefact from a file of ``advbench artefact`` instead of fitting one. The harness reads
    and checks the file, and passes the artefact as ``fitted``.
    """
    return artefact_file_param(
        help="artefact of an earlier fit to use instead of fitting, written by advbench artefact"
    )


def artefact_file_of(component: Component) -> str | None:
    """The file from which a component takes its artefact; None if it has no such parameter, or if it is not given."""
    component = getattr(component, "innermost", component)
    for parameter in component.parameters():
        if parameter.artefact_file:
            path: str | None = getattr(component, parameter.name)
            return path
    return None
