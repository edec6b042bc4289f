"""The smallest adversarial step of FGSM, found by trying 1,000 sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from advbench.api import Goal, for_rows
from advbench_attacks.active_sets import on_device
from advbench_attacks.classifier_calls import float32_logits, reaches_goal, reaches_goal_in_batch
from advbench_attacks.gradient.pgd_steps import loss_gradient
from advbench_attacks.input_gradients import sign_gradient
from advbench_attacks.losses import Loss, margin, targeted_margin_loss, top_other_classes

__all__ = ["smallest_fgsm_step"]

SIZES = 1000
"""Number of step sizes (Foolbox 2.3)."""

_AHEAD = 16
"""One size is tried at once for every so many that have failed on a sample."""

_CLASSES = 9
"""Number of target classes, those with the largest logits first, where the untargeted direction fails."""


def smallest_fgsm_step(model: torch.nn.Module, images: torch.Tensor, goal: Goal, max_eps: float) -> torch.Tensor:
    """Returns FGSM's step of the smallest adversarial eps among 1,000 equal parts of max_eps.

    The step is clip(x + eps · sign(∇ₓ cross-entropy(x, y)), 0, 1), as for a fixed eps. If no eps up to 1 is
    adversarial, the direction is unsuitable; such a sample gets the shortest adversarial step along sign(∇ₓ(zⱼ − z_y))
    for the other classes j, or with a target class t along sign(∇ₓ(zₜ − max_{j≠t} zⱼ)).

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        goal: What to make of each sample.
        max_eps: The largest eps, above 0 and at most 1.

    Returns:
        Images of the same shape; the clean image for a sample that reaches the goal already, or has no adversarial
        step.
    """
    sizes = [size * max_eps / SIZES for size in range(1, SIZES + 1)]
    ray_search = _RaySearch(model, images, goal, sizes)
    ray_search.search(ray_search.unreached.nonzero().flatten())
    if max_eps == 1:
        ray_search.search_target_classes((ray_search.unreached & ~ray_search.solved).nonzero().flatten())
    return ray_search.result()


class _RaySearch:
    """The state of a search: each sample's direction and the next size to try.

    Indices and what is known of samples are on the CPU, so that an accelerator is waited for once for each number of
    sizes that are tried together.

    Attributes:
        unreached: Whether each clean image has not reached the goal.
        size_index: Index of each sample's adversarial size, or of the next size to try.
        solved: Whether a sample has an adversarial size.
    """

    def __init__(self, model: torch.nn.Module, images: torch.Tensor, goal: Goal, sizes: Sequence[float]) -> None:
        self.model = model
        self.images = images
        self.goal = goal
        self.sizes = torch.tensor(sizes, dtype=images.dtype, device=images.device)
        gradient, logits = loss_gradient(model, images, goal)
        self.directions = gradient.sign()
        self.unreached = ~goal.reached(logits).cpu()
        self.size_index = torch.zeros(len(images), dtype=torch.int64)
        self.solved = torch.zeros(len(images), dtype=torch.bool)

    def search(self, rows: torch.Tensor) -> None:
        """Tries one size after another until each of these samples is solved or has no size left.

        Solved samples leave the batch. The more sizes have failed on a sample, the more are tried at once. The number
        depends on the sample alone, not on its batch: behind a stochastic defense, each try uses up random draws of the
        sample.
        """
        while len(rows):
            blocks = (self.size_index[rows] // _AHEAD).clamp(min=1)
            for block in sorted(set(blocks.tolist())):
                self._try(rows[blocks == block], block)
            rows = rows[~self.solved[rows] & (self.size_index[rows] < len(self.sizes))]

    def _try(self, rows: torch.Tensor, block: int) -> None:
        """Tries the next sizes of these samples, in batches no larger than the attack's."""
        # The last size replaces those beyond it, so that its first success still counts.
        indices = (self.size_index[rows] + torch.arange(block)[:, None]).clamp(max=len(self.sizes) - 1)
        batch_size, images = len(self.images), self.images
        successes = [
            reaches_goal(for_rows(self.model, batch_rows), self._points(batch_rows, size_index), self.goal[batch_rows])
            for batch_rows, size_index in zip(
                torch.split(on_device(rows.repeat(block), images), batch_size),
                torch.split(on_device(indices.flatten(), images), batch_size),
                strict=True,
            )
        ]
        is_adv = torch.cat(successes).cpu().reshape(block, -1)
        self.solved[rows] = is_adv.any(dim=0)
        self.size_index[rows] += torch.where(is_adv.any(dim=0), is_adv.int().argmax(dim=0), block)

    def search_target_classes(self, rows: torch.Tensor) -> None:
        """Gives each of these samples the shortest adversarial step for the top other classes."""
        if not len(rows):
            return
        places = on_device(rows, self.images)
        images, goal = self.images[places], self.goal[places]
        with torch.no_grad():
            logits = float32_logits(for_rows(self.model, places), images)
        best_directions, best_index = self.directions[places], torch.full_like(rows, len(self.sizes))
        losses: list[Loss] = [margin]
        if not goal.targeted:
            losses = [targeted_margin_loss(targets) for targets in top_other_classes(logits, goal.labels, _CLASSES).T]
        for loss in losses:
            self.directions[places] = sign_gradient(for_rows(self.model, places), images, goal, loss)[0]
            self.size_index[rows] = 0
            self.search(rows)
            size_index = torch.where(self.solved[rows], self.size_index[rows], len(self.sizes))
            shorter = size_index < best_index
            best_index = torch.where(shorter, size_index, best_index)
            better = on_device(shorter.nonzero().flatten(), self.images)
            best_directions[better] = self.directions[places[better]]
        self.directions[places] = best_directions
        self.size_index[rows], self.solved[rows] = best_index, best_index < len(self.sizes)

    def result(self) -> torch.Tensor:
        """Returns the adversarial images, verified in this batch; rounding may differ in the search's batches."""
        crafted = self.images.clone()
        rows = self.solved.nonzero().flatten()
        while len(rows):
            places = on_device(rows, self.images)
            crafted[places] = self._points(places, on_device(self.size_index[rows], self.images))
            failed = rows[~reaches_goal_in_batch(self.model, crafted, self.goal, places).cpu()]
            places = on_device(failed, self.images)
            crafted[places] = self.images[places]
            self.size_index[failed] += 1
            self.solved[failed] = False
            self.search(failed[self.size_index[failed] < len(self.sizes)])
            rows = failed[self.solved[failed]]
        return crafted

    def _points(self, rows: torch.Tensor, size_index: torch.Tensor) -> torch.Tensor:
        images, size = self.images[rows], self.sizes[size_index].reshape(-1, *[1] * (self.images.ndim - 1))
        points = (images + size * self.directions[rows]).clamp(0, 1)
        # Foolbox clips in this order; the image must equal that of FGSM at this eps to the bit.
        return (images + (points - images).clamp(-size, size)).clamp(0, 1)
