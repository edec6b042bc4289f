"""Perturbations of fixed shape: graffiti and stickers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import Artefact, Attack, Crafted, Goal, Patch, SampleRandom, goal_param, is_stochastic, param
from advbench_attacks.active_sets import on_device
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.gradient.pgd_steps import loss_gradient
from advbench_attacks.norms import per_image
from advbench_attacks.patch.masks import MASKS, make_mask
from advbench_attacks.patch.pasting import pixel_count

__all__ = ["Graffiti"]


@dataclass(frozen=True)
class Graffiti(Attack):
    """Any change of the pixels in a mask of strokes or stickers that is the same for all images.

    x ← x + step · m · sign(∇ₓ loss(x, y)), clipped to [0, 1], where m is the mask. The start is random within the mask,
    and the step falls to 0 along a straight line. The loss is the cross-entropy. Each sample keeps its point of the
    largest margin; behind a stochastic defense its last one, since the largest of several noisy margins says little.
    Each image is attacked by itself. The source fits one perturbation to photographs of one object
    instead, and adds a loss for colours that cannot be printed.
    """

    name: ClassVar[str] = "graffiti"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Eykholt, Evtimov, Fernandes, Li, Rahmati, Xiao, Prakash, Kohno and Song 2018, Robust Physical-World Attacks "
        "on Deep Learning Visual Classification, section 3 (masks)"
    )

    area: float = param(0.1, above=0, max=1, help="largest share of the image that the mask covers")
    shape: str = param(
        "graffiti",
        choices=MASKS,
        help="graffiti: two zigzag lines; stickers: four horizontal bars; square: a square in the centre",
    )
    steps: int = param(100, min=1, help="number of gradient steps")
    step_size: float = param(0.1, above=0, max=1, help="length of the first step; later ones are shorter")
    goal: str = goal_param()

    def perturbation(self) -> Patch:
        """Returns the patches of this area."""
        return Patch(self.area)

    def misfit(self, image_shape: tuple[int, int, int], num_classes: int) -> str:
        """Refuses masks of less than a pixel."""
        height, width = image_shape[1:]
        if not pixel_count(self.area, height, width):
            return f"area={self.area:g} of {height}×{width} pixels is less than one pixel; give more"
        return super().misfit(image_shape, num_classes)

    def passes(self) -> int:
        """Returns one gradient for each step."""
        return self.steps

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> Crafted:
        """Attacks one batch; see :meth:`advbench.api.Attack.craft`."""
        del fitted
        mask = on_device(make_mask(self.shape, self.area, images.shape[2], images.shape[3]), images)
        points = torch.where(mask, rng.uniform(*images.shape[1:]).to(images), images)
        best, highest = points.clone(), points.new_full((len(points),), -math.inf)
        for step in range(self.steps + 1):
            if step < self.steps:
                gradient, logits = loss_gradient(model, points, goal)
            else:
                with torch.no_grad():
                    gradient, logits = torch.zeros_like(points), float32_logits(model, points)
            margins = goal.margin(logits)
            best = torch.where(per_image(margins > highest), points, best)
            highest = highest.maximum(margins)
            size = self.step_size * (1 - step / self.steps)
            points = torch.where(mask, (points + size * gradient.sign()).clamp(0, 1), images)
        found = points if is_stochastic(model) else best
        return Crafted(found, {"mask": mask[None, None].repeat(len(images), 1, 1, 1)})
