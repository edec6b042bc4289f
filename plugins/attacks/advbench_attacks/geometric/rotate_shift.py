"""The worst of a grid of rotations and shifts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Access, Artefact, Attack, Crafted, Geometric, Goal, SampleRandom, goal_param, param
from advbench_attacks.geometric.grid_search import grid_of_motions, worst_motion

__all__ = ["RotateShift"]


@dataclass(frozen=True)
class RotateShift(Attack):
    """The rotation and shift of a grid with the largest margin of the goal, for each sample. It uses no gradients.

    The margin is max_{j≠y} zⱼ − z_y, or zₜ − max_{j≠t} zⱼ for a target t. All points of the grid are evaluated, so the
    result is the exact worst case over the grid; of equal ones, the smallest motion is kept. With ``early_stop``, a
    sample takes the smallest motion that reaches its goal, and the rest of the grid is left out for it. This gives the
    same success rate on the attacked model in less time.
    """

    name: ClassVar[str] = "rotate-shift"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Engstrom, Tran, Tsipras, Schmidt and Madry 2019, Exploring the landscape of spatial robustness, section 3, "
        "grid search: 5 shifts in each direction and 31 rotations, up to 3 pixels and 30 degrees"
    )
    access: ClassVar[Access] = "scores"

    max_angle: float = param(30.0, min=0, max=180, help="largest rotation in degrees, in both directions")
    max_shift: float = param(3.0, min=0, help="largest shift in pixels, in each direction")
    angles: int = param(31, min=1, help="number of angles, evenly spaced; an odd number includes 0")
    shifts: int = param(5, min=1, help="number of shifts in each of both axes, evenly spaced")
    interpolation: str = param("bilinear", choices=("bilinear", "nearest"), help="how points between pixels are made")
    padding: str = param(
        "zeros",
        choices=("zeros", "border", "reflection"),
        help="what is outside the image: black, its nearest pixel or its mirror image",
    )
    early_stop: bool = param(False, help="stop at a sample's first motion of success, the smallest ones being first")
    goal: str = goal_param()

    def perturbation(self) -> Geometric:
        """Returns the rotations and shifts up to the largest ones."""
        return Geometric(self.max_angle, self.max_shift, self.interpolation, self.padding)

    def misfit(self, image_shape: tuple[int, int, int], num_classes: int) -> str:
        """Refuses shifts that move the whole image out of view."""
        del num_classes
        height, width = image_shape[1:]
        if self.max_shift < min(height, width):
            return ""
        return f"max_shift={self.max_shift:g} moves images of {height}×{width} pixels out of view; give less"

    def passes(self) -> int:
        """Returns a third of a gradient for each point of the grid."""
        return max(1, self.angles * self.shifts**2 // 3)

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> Crafted:
        """Attacks one batch; see :meth:`advbench.api.Attack.craft`."""
        del rng, fitted
        grid = grid_of_motions(self.max_angle, self.angles, self.max_shift, self.shifts)
        return worst_motion(model, images, goal, grid, self.perturbation(), early_stop=self.early_stop)
