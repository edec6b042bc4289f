"""The smallest eps along a ray: the first of many sizes of one step that fools the model."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from advbench.api import for_rows
from advbench_attacks.answers import ask
from advbench_attacks.gradient.pgd_steps import loss_gradient
from advbench_attacks.input_gradients import fooled, likeliest, sign_gradient, towards

__all__ = ["first_on_ray"]

SIZES = 1000
"""How many sizes are tried (Foolbox 2.3)."""

_AHEAD = 16
"""How many sizes have failed on a sample for each that is tried at once."""

_CLASSES = 9
"""Towards how many classes a ray is tried, the likeliest first."""


def first_on_ray(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, max_eps: float) -> torch.Tensor:
    """The first of 1,000 equal parts of max_eps by which FGSM's step fools the model.

    The step is clip(x + eps · sign(∇ₓ cross-entropy(x, y)), 0, 1), as at a fixed eps. Where no eps up to 1 fools
    the model the direction is at fault. Such a sample is given the shortest of the steps along sign(∇ₓ(zⱼ − z_y))
    towards the other classes j.

    Args:
        model: Classifier in eval mode.
        images: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
        labels: True labels, int64, shape (batch,).
        max_eps: The largest eps, above 0 and at most 1.

    Returns:
        Images of the same shape; the clean image for a sample that is misclassified already, or fooled nowhere.
    """
    sizes = [size * max_eps / SIZES for size in range(1, SIZES + 1)]
    search = _RaySearch(model, images, labels, sizes)
    search.look(search.right.nonzero().flatten())
    if max_eps == 1:
        search.look_towards_classes((search.right & ~search.found).nonzero().flatten())
    return search.result()


class _RaySearch:
    """The state of a search: per sample its ray, and how far along it has been tried.

    Attributes:
        right: Per sample, whether the clean image is rightly classified.
        at: Per sample, the index of the size that fools the model, or of the next one to be tried.
        found: Whether it is the former.
    """

    def __init__(
        self, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, sizes: Sequence[float]
    ) -> None:
        self.model = model
        self.images = images
        self.labels = labels
        self.sizes = torch.tensor(sizes, dtype=images.dtype, device=images.device)
        gradient, logits = loss_gradient(model, images, labels)
        self.rays = gradient.sign()
        self.right = logits.argmax(dim=1) == labels
        self.at = torch.zeros_like(labels)
        self.found = torch.zeros_like(labels, dtype=torch.bool)

    def look(self, rows: torch.Tensor) -> None:
        """Tries size after size on these samples until each is found or has no size left.

        Samples that are done leave the batch. The further a sample has come, the more sizes of it are tried at once,
        as many as in any other batch: behind a stochastic defense each takes a draw of the sample's.
        """
        while len(rows):
            blocks = (self.at[rows] // _AHEAD).clamp(min=1)
            for block in sorted(set(blocks.tolist())):
                self._try(rows[blocks == block], block)
            rows = rows[~self.found[rows] & (self.at[rows] < len(self.sizes))]

    def _try(self, rows: torch.Tensor, block: int) -> None:
        """Tries the next sizes of these samples, in batches no larger than the attack's."""
        # The last size stands in for those beyond it, so that its first success still counts.
        tried = (self.at[rows] + torch.arange(block, device=rows.device)[:, None]).clamp(max=len(self.sizes) - 1)
        most = len(self.images)
        hits = [
            fooled(for_rows(self.model, every), self._points(every, at), self.labels[every])
            for every, at in zip(torch.split(rows.repeat(block), most), torch.split(tried.flatten(), most), strict=True)
        ]
        hit = torch.cat(hits).reshape(block, -1)
        self.found[rows] = hit.any(dim=0)
        self.at[rows] += torch.where(hit.any(dim=0), hit.int().argmax(dim=0), block)

    def look_towards_classes(self, rows: torch.Tensor) -> None:
        """Gives each of these samples the shortest of the rays towards the likeliest other classes."""
        if not len(rows):
            return
        images, labels = self.images[rows], self.labels[rows]
        with torch.no_grad():
            logits = ask(for_rows(self.model, rows), images)
        best_rays, best_at = self.rays[rows], torch.full_like(labels, len(self.sizes))
        for targets in likeliest(logits, labels, _CLASSES).T:
            self.rays[rows] = sign_gradient(for_rows(self.model, rows), images, labels, towards(targets))[0]
            self.at[rows] = 0
            self.look(rows)
            at = torch.where(self.found[rows], self.at[rows], len(self.sizes))
            shorter = at < best_at
            best_at = torch.where(shorter, at, best_at)
            best_rays[shorter] = self.rays[rows[shorter]]
        self.rays[rows], self.at[rows], self.found[rows] = best_rays, best_at, best_at < len(self.sizes)

    def result(self) -> torch.Tensor:
        """The images found, each misclassified in this batch and not only among the samples it was found with."""
        crafted = self.images.clone()
        rows = self.found.nonzero().flatten()
        while len(rows):
            crafted[rows] = self._points(rows, self.at[rows])
            # One that has held is not judged again: a stochastic defense would do so by other draws.
            lost = rows[~fooled(self.model, crafted, self.labels)[rows]]
            crafted[lost] = self.images[lost]
            self.at[lost] += 1
            self.found[lost] = False
            self.look(lost[self.at[lost] < len(self.sizes)])
            rows = lost[self.found[lost]]
        return crafted

    def _points(self, rows: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        images, size = self.images[rows], self.sizes[at].reshape(-1, *[1] * (self.images.ndim - 1))
        stepped = (images + size * self.rays[rows]).clamp(0, 1)
        # Foolbox ends so, and the image is to equal that of FGSM at this eps to the bit.
        return (images + (stepped - images).clamp(-size, size)).clamp(0, 1)
