"""Total variation minimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from advbench.api import Defense, param

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["TotalVariationMinimisation"]

Floats: TypeAlias = "npt.NDArray[np.float64]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"

_BLOCK_VALUES = 100_000
"""How many pixel values are solved together; more take memory and no less time."""


@dataclass(frozen=True)
class TotalVariationMinimisation(Defense):
    """Drops random pixels and fills them in by minimising the image's total variation.

    This is the masked, isotropic split Bregman solver of Guo et al.'s own experiments. It is not the variant
    of Athalye et al. (one mask for all channels, mu = 2/weight, anisotropic, one sweep), nor scikit-image's
    ``denoise_tv_bregman``, which has no mask. Each channel of each image is solved by itself, in float64,
    with Gauss-Seidel sweeps in row-by-row order; the result is not clamped to [0, 1]. As there, a dropped value
    that was exactly 0 counts as kept, which is true of most of a digit's background.

    Args:
        drop: Probability that a value (a pixel in one channel) is dropped; 0 makes the defense deterministic.
        weight: Strength of the smoothing, 1/mu: the larger, the smoother.
        iterations: Most outer iterations, each of which ends with one update of the gradient variables.
        sweeps: Gauss-Seidel sweeps over the image in each outer iteration.
        tolerance: An image is finished when an outer iteration changes it by no more than this root mean
            square, over its pixels and channels; pixel values are in [0, 1].
    """

    name = "tvm"
    source = (
        "Guo, Rana, Cisse and van der Maaten 2018, Countering Adversarial Images using Input Transformations, "
        "section 4.2; solver: Goldstein and Osher 2009, The Split Bregman Method for L1-Regularized Problems"
    )
    drop: float = param(0.5, min=0, below=1, help="probability that a pixel is dropped, drawn for each channel")
    weight: float = param(0.03, above=0, help="strength of the smoothing (1/mu); larger is smoother")
    iterations: int = param(100, min=1, help="most outer iterations of split Bregman")
    sweeps: int = param(10, min=1, help="Gauss-Seidel sweeps in each outer iteration")
    tolerance: float = param(0.01, min=0, help="root mean square change of an image at which it is finished")

    @property
    def stochastic(self) -> bool:
        """Whether pixels are dropped at all."""
        return self.drop > 0

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the restored images, whose values may lie slightly outside [0, 1]."""
        clean = images.detach().cpu().numpy()
        dropped = rng.bernoulli(self.drop, *clean.shape[1:]).cpu().numpy()
        # The published solver knows a dropped pixel by its value: one that was 0 all along counts as kept.
        kept = ~dropped | (clean == 0)
        f = np.where(dropped, 0, clean).astype(np.float64)
        restored = np.empty_like(clean)
        block = max(1, _BLOCK_VALUES // max(1, f[:1].size))
        for start in range(0, len(f), block):
            part = slice(start, start + block)
            restored[part] = self._restore(f[part], kept[part])
        return torch.from_numpy(restored).to(images.device)

    def _restore(self, f: Floats, kept: Mask) -> Floats:
        """Solves for images f of shape (batch, channels, height, width), 0 where they are not kept."""
        batch, channels, height, width = f.shape
        mu = 1 / self.weight
        ell = 2 * mu
        layout = _Diagonals(height, width)
        # Gauss-Seidel sets u to (ell S + mu f) / (mu + n ell) where f is kept and to S / 4 elsewhere, S being the
        # sum of the n neighbours and the Bregman term. That is gain S + pull.
        norm = mu + layout.neighbours * ell
        gain = layout.skew(np.where(kept, ell / norm, 1 / 4))
        pull = layout.skew(np.where(kept, mu * f / norm, 0))
        u = np.pad(layout.skew(f), ((1, 1), (1, 1), (0, 0)))
        inside = u[1:-1, 1:-1]
        bx, by, bregman = np.zeros_like(gain), np.zeros_like(gain), np.zeros_like(gain)

        restored = np.empty_like(f)
        active = np.arange(batch)
        for _ in range(self.iterations):
            previous = inside.copy()
            layout.sweep(u, gain, pull + gain * bregman, self.sweeps)
            bx, by, bregman = layout.shrink(u, bx, by, ell)

            # One row an image, so that the order of its sum, and so its last bit, is the same in every batch.
            change = np.ascontiguousarray((inside - previous).reshape(-1, len(active) * channels).T)
            rmse = np.sqrt(np.square(change).reshape(len(active), -1).sum(axis=1) / f[0].size)
            unfinished = rmse > self.tolerance
            if not unfinished.all():
                restored[active[~unfinished]] = layout.unskew(inside, channels)[~unfinished]
                active = active[unfinished]
                if not len(active):
                    return restored
                still = np.repeat(unfinished, channels)
                u, gain, pull, bx, by, bregman = (
                    np.compress(still, x, axis=-1) for x in (u, gain, pull, bx, by, bregman)
                )
                inside = u[1:-1, 1:-1]
        restored[active] = layout.unskew(inside, channels)
        return restored


class _Diagonals:
    """Images laid out by anti-diagonals, within which a Gauss-Seidel sweep may update all pixels at once.

    Pixel (r, c) is at [r + c, r]. Its neighbours above and on the left are on the diagonal before, at r - 1 and
    r, those on the right and below on the diagonal after, at r and r + 1. The third dimension runs over the
    channels of all images. Places that hold no pixel are 0.
    """

    def __init__(self, height: int, width: int) -> None:
        self._height, self._width = height, width
        row, column = np.indices((height, width))
        self._at = (row + column, row)
        has_below, has_right = row < height - 1, column < width - 1
        self.neighbours = 0 + has_below + has_right + (row > 0) + (column > 0)
        self._has_below = self.skew(has_below[None, None])
        self._has_right = self.skew(has_right[None, None])

    def skew(self, images: npt.NDArray[Any]) -> Floats:
        """Lays out images of shape (batch, channels, height, width)."""
        height, width = self._height, self._width
        laid_out = np.zeros((height + width - 1, height, images.shape[0] * images.shape[1]))
        laid_out[self._at] = images.reshape(-1, height, width).transpose(1, 2, 0)
        return laid_out

    def unskew(self, laid_out: Floats, channels: int) -> Floats:
        """The images again, of shape (batch, channels, height, width)."""
        images: Floats = laid_out[self._at].transpose(2, 0, 1).reshape(-1, channels, self._height, self._width)
        return images

    @staticmethod
    def sweep(u: Floats, gain: Floats, pull: Floats, sweeps: int) -> None:
        """Gauss-Seidel sweeps in row-by-row order, in place: u becomes gain (sum of its neighbours) + pull.

        Each sweep follows the one before at a distance of two diagonals, which is as close as it can without
        reading what is not there yet. So every step updates every other diagonal of a range.

        Args:
            u: The images, with a border of zeros on the first two dimensions.
            gain: Factor of each pixel.
            pull: Summand of each pixel.
            sweeps: How many sweeps.
        """
        last = len(gain) - 1
        sums = np.empty((min(sweeps, last // 2 + 1), *gain.shape[1:]))
        for step in range(last + 2 * sweeps - 1):
            first = max(step - 2 * (sweeps - 1), step % 2)
            end = min(step, last) + 1
            now = slice(first, end, 2)
            before, here, after = now, slice(first + 1, end + 1, 2), slice(first + 2, end + 2, 2)
            total = sums[: len(gain[now])]
            np.add(u[before, :-2], u[before, 1:-1], out=total)
            total += u[after, 1:-1]
            total += u[after, 2:]
            total *= gain[now]
            np.add(total, pull[now], out=u[here, 1:-1])

    def shrink(self, u: Floats, bx: Floats, by: Floats, ell: float) -> tuple[Floats, Floats, Floats]:
        """Updates d and b once: t = grad u + b, s = |t|, d = s ell t / (s ell + 1), b = t - d.

        Returns:
            The new b in x and y, and the Bregman term, div(b - d) with backward differences.
        """
        inside = u[1:-1, 1:-1]
        tx = bx + (u[2:, 1:-1] - inside) * self._has_right
        ty = by + (u[2:, 2:] - inside) * self._has_below
        s = np.sqrt(tx * tx + ty * ty)
        shrinkage = s * ell / (s * ell + 1)
        dx, dy = shrinkage * tx, shrinkage * ty
        bx, by = tx - dx, ty - dy
        x, y = bx - dx, by - dy
        bregman = x + y
        bregman[1:] -= x[:-1]
        bregman[1:, 1:] -= y[:-1, :-1]
        return bx, by, bregman
