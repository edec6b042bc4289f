"""The contract of models."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from advbench.api.component import Component

if TYPE_CHECKING:
    import torch

__all__ = ["Model"]


@dataclasses.dataclass(frozen=True)
class Model(Component):
    """A classifier: images in [0, 1] to logits, its normalisation inside it.

    Attributes:
        image_shape: (channels, height, width) that it takes, or None where it takes any; a property where it depends on
            the parameters.
        num_classes: How many logits it gives, or None where at least as many as the dataset has classes; as above.
    """

    image_shape: ClassVar[tuple[int, int, int] | None]
    num_classes: ClassVar[int | None]

    @abstractmethod
    def load(self) -> torch.nn.Module:
        """Builds the network with its trained weights, on the CPU.

        Returns:
            A module that maps float32 images in [0, 1], shape (batch, *image_shape), to logits, shape
            (batch, num_classes), as :class:`advbench.api.Float32Network` finds them. The harness moves it to the
            device, puts it in eval mode and freezes it.

        Raises:
            WeightsError: The weights are missing or damaged; the message names the command that makes them.
        """

    @abstractmethod
    def weights_digest(self) -> str:
        """SHA-256 of the weights that :meth:`load` uses, without building the network; a part of every key.

        Raises:
            WeightsError: The weights are missing or damaged.
        """
