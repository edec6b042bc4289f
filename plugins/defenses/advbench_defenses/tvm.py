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

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["TotalVariationMinimisation"]

_MOST, _LEAST = 200_000, 80_000
"""How many pixel values are solved together: more take memory and no less time, fewer gain nothing from a thread."""


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
    self_contained = True
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
        restored = np.empty_like(clean)
        threads = torch.get_num_threads()
        parts = _parts(len(clean), math.prod(clean.shape[1:]), threads)

        def restore(part: slice) -> None:
            given = clean[part]
            dropped = rng[part].bernoulli(self.drop, *given.shape[1:]).cpu().numpy()
            restored[part] = solve(
                np.where(dropped, 0, given).astype(np.float64),
                # The published solver knows a dropped pixel by its value: one that was 0 all along counts as kept.
                ~dropped | (given == 0),
                mu=1 / self.weight,
                iterations=self.iterations,
                sweeps=self.sweeps,
                tolerance=self.tolerance,
            )

        # NumPy lets other threads run while it computes; as many as torch is given.
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(restore, parts))
        return torch.from_numpy(restored).to(images.device)


def _parts(count: int, values: int, threads: int) -> list[slice]:
    """Images of so many values each in parts of nearly one size, of which every thread gets as many."""
    rounds = -(-count * values // (threads * _MOST))
    parts = min(rounds * threads, max(1, count * values // _LEAST), count)
    return [slice(count * part // parts, count * (part + 1) // parts) for part in range(parts)]
