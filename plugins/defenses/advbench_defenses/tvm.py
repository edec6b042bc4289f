"""Total variation minimisation."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from advbench.api import Defense, param
from advbench_defenses.split_bregman import BORDERS, PUBLISHED, solve
from advbench_defenses.tvm_gradient import linearised

if TYPE_CHECKING:
    from advbench.api import SampleRandom

    Pixels: TypeAlias = npt.NDArray[np.float32]

__all__ = ["TotalVariationMinimisation"]

_MAX_VALUES, _MIN_VALUES = 200_000, 80_000
"""Maximum and minimum number of pixel values per block: larger blocks take more memory and no less time, smaller ones
do not use a thread well.
"""


@dataclass(frozen=True)
class TotalVariationMinimisation(Defense):
    """Drops random pixels and restores them by minimising the image's total variation.

    This is the masked, isotropic split Bregman solver of the original experiments of Guo et al. It is not the variant
    of Athalye et al. (one mask for all channels, mu = 2/weight, anisotropic, one sweep). Each channel is solved
    separately, in float64, with Gauss-Seidel sweeps in row-by-row order; the result is not clamped to [0, 1]. As in the
    original, a dropped value that was exactly 0 counts as kept; in MNIST, this holds for most of the background.

    The original solver sets a dropped pixel to the sum of its neighbours (and the Bregman term) divided by 4. Pixels at
    the border have three or two neighbours, so they become too dark. ``border=neighbours`` divides by the number of
    neighbours.

    With ``drop=0``, scikit-image's ``denoise_tv_bregman`` restores the images, as in the original. It has no mask, one
    sweep per iteration, and values outside the image that stay fixed; ``border`` and ``sweeps`` have no effect. The
    original uses ``tolerance=0.001`` there.

    Args:
        drop: Probability that a value (a pixel in one channel) is dropped; 0 makes the defense deterministic.
        weight: Strength of the smoothing, 1/mu; larger values smooth more.
        iterations: Maximum number of outer iterations, each of which updates the gradient variables once.
        sweeps: Gauss-Seidel sweeps per outer iteration.
        tolerance: An image is finished once an outer iteration changes it by at most this root mean square over its
            pixels and channels; pixel values are in [0, 1].
        border: Divisor of the sum at a dropped pixel of the border: ``published`` is 4, ``neighbours`` the number of
            its neighbours.
    """

    name = "tvm"
    self_contained = True
    depends_on = ("scikit-image",)
    source = (
        "Guo, Rana, Cisse and van der Maaten 2018, Countering Adversarial Images using Input Transformations, "
        "section 4.2; solver: Goldstein and Osher 2009, The Split Bregman Method for L1-Regularized Problems"
    )
    drop: float = param(0.5, min=0, below=1, help="probability that a pixel is dropped, for each channel")
    weight: float = param(0.03, above=0, help="strength of the smoothing (1/mu); larger values smooth more")
    iterations: int = param(100, min=1, help="maximum outer iterations of split Bregman")
    sweeps: int = param(10, min=1, help="Gauss-Seidel sweeps per outer iteration")
    tolerance: float = param(0.01, min=0, help="root mean square change of an image below which it is finished")
    border: str = param(
        PUBLISHED, choices=BORDERS, help="divisor at dropped border pixels: 4, or their number of neighbours"
    )

    @property
    def stochastic(self) -> bool:
        """Whether pixels are dropped."""
        return self.drop > 0

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Returns why images of this shape cannot be restored, or an empty string."""
        if self.drop > 0 or min(image_shape[1:]) > 1:
            return ""
        # scikit-image reads the second row and column without checking that they exist.
        return f"{self.name} with drop=0 needs images of at least 2 x 2 pixels, not of {image_shape}"

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the restored images, whose values may lie slightly outside [0, 1]."""
        return self._restore(images, self._dropped(images, rng))

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns a differentiable linearisation of the restoration; see :func:`linearised`."""
        dropped = self._dropped(images, rng)
        return linearised(images, dropped, self._restore(images, dropped), self.weight)

    def approximation_from_output(self, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns a differentiable linearisation of the restoration around its output; see :func:`linearised`."""
        return linearised(images, self._dropped(images, rng), output, self.weight)

    def _dropped(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Draws which values are dropped: bool, of the images' shape."""
        if self.drop == 0:
            return torch.zeros_like(images, dtype=torch.bool)
        return rng.bernoulli(self.drop, *images.shape[1:])

    def _restore(self, images: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        """Restores images with some of their values dropped."""
        pixels = images.detach().cpu().numpy()
        restored = self._solve_masked(pixels, dropped.cpu().numpy()) if self.drop > 0 else self._solve_unmasked(pixels)
        return torch.from_numpy(restored).to(images.device)

    def _solve_masked(self, pixels: Pixels, masks: npt.NDArray[np.bool_]) -> Pixels:
        """Solves for the dropped values and smooths the others, in parts, one thread per part."""
        restored = np.empty_like(pixels)
        threads = torch.get_num_threads()
        parts = _parts(len(pixels), math.prod(pixels.shape[1:]), threads)

        def restore(part: slice) -> None:
            images_part, mask = pixels[part], masks[part]
            restored[part] = solve(
                np.where(mask, 0, images_part).astype(np.float64),
                # The original solver recognises a dropped pixel by its value, so a pixel that was 0 before counts as
                # kept.
                ~mask | (images_part == 0),
                mu=1 / self.weight,
                iterations=self.iterations,
                sweeps=self.sweeps,
                tolerance=self.tolerance,
                border=self.border,
            )

        # NumPy releases the GIL while it computes; the number of threads is torch's.
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(restore, parts))
        return restored

    def _solve_unmasked(self, pixels: Pixels) -> Pixels:
        """Restores the images with scikit-image, one by one."""
        from skimage.restoration import denoise_tv_bregman

        restored = np.empty_like(pixels)
        for image, output in zip(pixels, restored, strict=True):
            # Without channel_axis, channels are solved separately, too, but finish together, as in the original. A
            # single channel is returned without its axis.
            solution = denoise_tv_bregman(
                image.transpose(1, 2, 0).astype(np.float64),
                weight=1 / self.weight,
                max_num_iter=self.iterations,
                eps=self.tolerance,
                isotropic=True,
            )
            output[:] = solution.reshape(*image.shape[1:], -1).transpose(2, 0, 1)
        return restored


def _parts(count: int, values: int, threads: int) -> list[slice]:
    """Divides images of so many values each into parts of almost equal size, the same number for every thread."""
    rounds = -(-count * values // (threads * _MAX_VALUES))
    parts = min(rounds * threads, max(1, count * values // _MIN_VALUES), count)
    return [slice(count * part // parts, count * (part + 1) // parts) for part in range(parts)]
