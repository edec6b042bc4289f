"""Total variation minimisation."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from advbench.api import Defense, param
from advbench_defenses.split_bregman import solve
from advbench_defenses.tvm_gradient import linearised

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["TotalVariationMinimisation"]

_MAX_VALUES, _MIN_VALUES = 200_000, 80_000
"""Maximum and minimum number of pixel values per block: larger blocks take more memory and no less time, smaller ones
do not use a thread well.
"""


@dataclass(frozen=True)
class TotalVariationMinimisation(Defense):
    """Drops random pixels and restores them by minimising the image's total variation.

    This is the masked, isotropic split Bregman solver of the original experiments of Guo et al. It is neither the
    variant of Athalye et al. (one mask for all channels, mu = 2/weight, anisotropic, one sweep), nor scikit-image's
    ``denoise_tv_bregman``, which has no mask. Each channel is solved separately, in float64, with Gauss-Seidel sweeps
    in row-by-row order; the result is not clamped to [0, 1]. As in the original, a dropped value that was exactly 0
    counts as kept; in MNIST, this holds for most of the background.

    Args:
        drop: Probability that a value (a pixel in one channel) is dropped; 0 makes the defense deterministic.
        weight: Strength of the smoothing, 1/mu; larger values smooth more.
        iterations: Maximum number of outer iterations, each of which updates the gradient variables once.
        sweeps: Gauss-Seidel sweeps per outer iteration.
        tolerance: An image is finished once an outer iteration changes it by at most this root mean square over its
            pixels and channels; pixel values are in [0, 1].
    """

    name = "tvm"
    self_contained = True
    source = (
        "Guo, Rana, Cisse and van der Maaten 2018, Countering Adversarial Images using Input Transformations, "
        "section 4.2; solver: Goldstein and Osher 2009, The Split Bregman Method for L1-Regularized Problems"
    )
    drop: float = param(0.5, min=0, below=1, help="probability that a pixel is dropped, for each channel")
    weight: float = param(0.03, above=0, help="strength of the smoothing (1/mu); larger values smooth more")
    iterations: int = param(100, min=1, help="maximum outer iterations of split Bregman")
    sweeps: int = param(10, min=1, help="Gauss-Seidel sweeps per outer iteration")
    tolerance: float = param(0.01, min=0, help="root mean square change of an image below which it is finished")

    @property
    def stochastic(self) -> bool:
        """Whether pixels are dropped."""
        return self.drop > 0

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the restored images, whose values may lie slightly outside [0, 1]."""
        return self._restore(images, rng.bernoulli(self.drop, *images.shape[1:]))

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns a differentiable linearisation of the restoration; see :func:`linearised`."""
        dropped = rng.bernoulli(self.drop, *images.shape[1:])
        return linearised(images, dropped, self._restore(images, dropped), self.weight)

    def approximation_from_output(self, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns a differentiable linearisation of the restoration around its output; see :func:`linearised`."""
        dropped = rng.bernoulli(self.drop, *images.shape[1:])
        return linearised(images, dropped, output, self.weight)

    def _restore(self, images: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
        """Restores images with some of their values dropped."""
        pixels, masks = images.detach().cpu().numpy(), dropped.cpu().numpy()
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
            )

        # NumPy releases the GIL while it computes; the number of threads is torch's.
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(restore, parts))
        return torch.from_numpy(restored).to(images.device)


def _parts(count: int, values: int, threads: int) -> list[slice]:
    """Divides images of so many values each into parts of almost equal size, the same number for every thread."""
    rounds = -(-count * values // (threads * _MAX_VALUES))
    parts = min(rounds * threads, max(1, count * values // _MIN_VALUES), count)
    return [slice(count * part // parts, count * (part + 1) // parts) for part in range(parts)]
