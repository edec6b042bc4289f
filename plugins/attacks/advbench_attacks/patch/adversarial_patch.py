"""One patch for all images, fitted to images that are not attacked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from advbench.api import (
    Artefact,
    Attack,
    Crafted,
    FitData,
    Goal,
    ParameterError,
    Patch,
    SampleRandom,
    artefact_param,
    for_rows,
    goal_param,
    param,
)
from advbench_attacks.classifier_calls import float32_logits
from advbench_attacks.patch.pasting import POSITIONS, Placement, draw_placement, paste, patch_width

__all__ = ["AdversarialPatch"]


@dataclass(frozen=True)
class AdversarialPatch(Attack):
    """One patch that reaches the goal on any image, wherever it is pasted.

    It is fitted to images that are not attacked: Adam minimises the expected loss over images, positions, rotations and
    scales. The loss is −log p_t for a target t, else −log(1 − p_y). Each attacked image gets the patch at its full
    size, with a rotation and a position of its own.
    """

    name: ClassVar[str] = "patch"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Brown, Mané, Roy, Abadi and Gilmer 2017, Adversarial patch, section 2, expectation over transformation"
    )

    area: float = param(0.1, above=0, max=1, help="largest share of the image that the patch covers")
    steps: int = param(300, min=1, help="steps of the fit")
    step_size: float = param(0.05, above=0, max=1, help="learning rate of Adam; falls to 0 along a cosine")
    batch: int = param(32, min=1, help="number of images of each step")
    shape: str = param("square", choices=("square", "circle"), help="shape of the patch")
    position: str = param("random", choices=POSITIONS, help="where the patch is pasted, in the fit and in the attack")
    max_angle: float = param(22.5, min=0, max=180, help="largest rotation in degrees, in both directions")
    min_scale: float = param(0.7, above=0, max=1, help="smallest width of the patch in the fit, as a share of the full")
    goal: str = goal_param()
    file: str | None = artefact_param()

    def perturbation(self) -> Patch:
        """Returns the patches of this area."""
        return Patch(self.area)

    def misfit(self, image_shape: tuple[int, int, int], num_classes: int) -> str:
        """Refuses patches that are larger than the image or smaller than a pixel."""
        side = self._side(image_shape)
        height, width = image_shape[1:]
        if side < 1:
            return f"area={self.area:g} of {height}×{width} pixels is less than one pixel; give more"
        if side > min(height, width):
            what = "side" if self.shape == "square" else "diameter"
            return f"area={self.area:g}: a {what} of {side} pixels does not fit into {height}×{width} pixels; give less"
        return super().misfit(image_shape, num_classes)

    def passes(self) -> int:
        """Returns 0: the attack itself does not query the model."""
        return 0

    def fit_passes(self, samples: int) -> int:
        """Returns one pass for each image of each step."""
        return self.steps * min(self.batch, samples)

    def fit(self, model: torch.nn.Module, data: FitData, goal: Goal, rng: SampleRandom) -> Artefact:
        """Fits the patch; see :meth:`advbench.api.Attack.fit`."""
        shape = tuple(data.images(torch.zeros(1, dtype=torch.int64, device=data.labels.device)).shape[1:])
        channels, height, width = shape
        side, size = self._side((channels, height, width)), min(self.batch, len(data))
        patch = torch.full((channels, side, side), 0.5, device=data.labels.device, requires_grad=True)
        optimiser = torch.optim.Adam([patch], lr=self.step_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        order = torch.empty(0, dtype=torch.int64, device=data.labels.device)
        for _ in range(self.steps):
            while len(order) < size:
                order = torch.cat((order, rng.uniform().argsort()))
            rows, order = order[:size], order[size:]
            placement = self._placement(rng[rows], (height, width), self.min_scale)
            images, _ = paste(data.images(rows), patch, placement, self.shape, self.area)
            loss = _loss(float32_logits(for_rows(model, rows), images), goal[rows])
            (patch.grad,) = torch.autograd.grad(loss, patch)
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                patch.clamp_(0, 1)
        return {"patch": patch.detach(), "shape": self.shape, "loss": float(loss.detach())}

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> Crafted:
        """Pastes the fitted patch on each image; see :meth:`advbench.api.Attack.craft`.

        Raises:
            ParameterError: The artefact is a patch of another size or shape.
        """
        del model, goal
        assert fitted is not None
        patch, side = fitted["patch"], self._side((images.shape[1], images.shape[2], images.shape[3]))
        fits = isinstance(patch, torch.Tensor) and patch.shape == (images.shape[1], side, side)
        if not fits or fitted.get("shape") != self.shape:
            size = "×".join(map(str, patch.shape[1:])) if isinstance(patch, torch.Tensor) else "no"
            raise ParameterError(
                f"file={self.file}: holds a {fitted.get('shape')} of {size} pixels, and area={self.area:g} takes a "
                f"{self.shape} of {side}×{side}; give the area and the shape with which it was fitted"
            )
        assert isinstance(patch, torch.Tensor)
        height, width = images.shape[2:]
        placement = self._placement(rng, (height, width), 1.0)
        pasted, mask = paste(images, patch.to(images), placement, self.shape, self.area)
        return Crafted(pasted.clamp(0, 1), {"mask": mask})

    def _placement(self, rng: SampleRandom, size: tuple[int, int], min_scale: float) -> Placement:
        side = patch_width(self.area, self.shape, *size)
        return draw_placement(rng, size, side, position=self.position, max_angle=self.max_angle, min_scale=min_scale)

    def _side(self, image_shape: tuple[int, int, int]) -> int:
        return patch_width(self.area, self.shape, *image_shape[1:])


def _loss(logits: torch.Tensor, goal: Goal) -> torch.Tensor:
    """The mean over the images of −log p_t, or of −log(1 − p_y) if untargeted; a scalar."""
    shares = logits.log_softmax(dim=1)
    if goal.targeted:
        return -shares.gather(1, goal.classes[:, None]).mean()
    others = shares.scatter(1, goal.labels[:, None], -math.inf)
    return -others.logsumexp(dim=1).mean()
