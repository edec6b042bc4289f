"""A chain of defenses, applied left to right."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from advbench.api.defense import Defense
from advbench.errors import ContractError

if TYPE_CHECKING:
    import torch

    from advbench.api.randomness import SampleRandom

__all__ = ["Chain"]


@dataclasses.dataclass(frozen=True)
class Chain:
    """One or several defenses in sequence, such as ``jpeg+tvm``.

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

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Why images of this shape (channels, height, width) cannot pass the chain, as its first part that cannot says.

        Defenses keep the shape, so each part is asked about the same one.
        """
        return next((reason for part in self.parts if (reason := part.incompatibility(image_shape))), "")

    def streams(self, index: int, rng: SampleRandom) -> SampleRandom:
        """The random streams of the part at an index, from 0. Each part has its own, and every call restarts them."""
        return rng.derive(f"{index}:{self.parts[index].name}")

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Applies all parts to a batch; see :meth:`advbench.api.Defense.apply`.

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
