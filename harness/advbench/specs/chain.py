"""A chain of defenses: each part acts on images before the next part and the model get them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from advbench.api.defense import Defense, transforms_images
from advbench.errors import ContractError

if TYPE_CHECKING:
    import torch

    from advbench.api.randomness import SampleRandom

__all__ = ["Chain", "transforms_images"]


@dataclasses.dataclass(frozen=True)
class Chain:
    """One or several defenses in sequence, such as ``jpeg+tvm``: the first is outermost, the last next to the model.

    Attributes:
        parts: The defenses, in the order in which they are applied.
    """

    parts: tuple[Defense, ...]

    @property
    def stochastic(self) -> bool:
        """Whether any part is stochastic."""
        return any(part.stochastic for part in self.parts)

    @property
    def identity(self) -> bool:
        """Whether every image is returned unchanged."""
        return all(part.identity for part in self.parts)

    @property
    def classifying(self) -> int | None:
        """The index of the first part that classifies; None if all parts only transform images."""
        return next((index for index, part in enumerate(self.parts) if not transforms_images(part)), None)

    @property
    def votes(self) -> int | None:
        """Of how many votes the chain's logits are log shares, or None."""
        index = self.classifying
        return None if index is None else self.parts[index].votes

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Why images of this shape (channels, height, width) cannot pass the chain, as its first part that cannot says.

        Each part is asked about the shape that the parts before it return.
        """
        for part in self.parts:
            if reason := part.incompatibility(image_shape):
                return reason
            image_shape = _output_shape(part, image_shape)
        return ""

    def output_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of the images that the model gets for images of this shape.

        Raises:
            ContractError: A part returned no shape.
        """
        for part in self.parts:
            image_shape = _output_shape(part, image_shape)
        return image_shape

    def streams(self, index: int, rng: SampleRandom) -> SampleRandom:
        """The random streams of the part at an index, from 0. Each part has its own, and every call restarts them."""
        return rng.derive(f"{index}:{self.parts[index].name}")

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Applies all parts to a batch; see :meth:`advbench.api.Defense.apply`. No part may be one that classifies.

        Raises:
            ContractError: A part before the last returned no tensor, which the next part could not take.
        """
        import torch

        defended: Any = images
        for index, part in enumerate(self.parts):
            if not isinstance(defended, torch.Tensor):
                returned = f"returned {type(defended).__name__}, not a tensor"
                raise ContractError(f"defense {self.parts[index - 1].name!r} {returned}")
            defended = part.apply(defended, self.streams(index, rng))
        result: torch.Tensor = defended
        return result


def _output_shape(part: Defense, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    shape: object = part.output_shape(image_shape)
    valid = isinstance(shape, tuple) and len(shape) == 3 and all(isinstance(size, int) and size > 0 for size in shape)
    if not valid:
        raise ContractError(
            f"defense {part.name!r} returned {shape!r} from output_shape(); expected (channels, height, width)"
        )
    return shape  # type: ignore[return-value]
