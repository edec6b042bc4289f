"""Colour quantisation by k-means."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from advbench.api import Defense, param
from advbench_defenses.lloyd import quantise
from advbench_defenses.seeding import candidates_per_centroid
from advbench_defenses.soft_assignment import SOFTENINGS, Softening, soft_quantise

if TYPE_CHECKING:
    from collections.abc import Callable

    from advbench.api import SampleRandom

__all__ = ["KMeansQuantisation"]


@dataclass(frozen=True)
class KMeansQuantisation(Defense):
    """Replaces each pixel by the centroid of its cluster, by k-means over the image's own colours.

    A pixel is a point with one coordinate per channel. Each image is clustered separately by Lloyd's algorithm, from
    one start: greedy k-means++, as in scikit-learn by default. An image with at most as many distinct colours as
    clusters is returned unchanged.

    With ``engine=scikit-learn``, scikit-learn clusters the images one by one, from other random starts.

    Args:
        clusters: Maximum number of colours per image.
        iterations: Maximum iterations of Lloyd's algorithm; it ends earlier once no pixel changes its cluster.
        engine: Implementation to run.
    """

    name = "kmeans"
    self_contained = True
    source = (
        "Lloyd 1982, Least squares quantization in PCM (the algorithm), on the colours of each image; Arthur and "
        "Vassilvitskii 2007, k-means++: The Advantages of Careful Seeding (the start)"
    )
    depends_on = ("scikit-learn",)
    clusters: int = param(16, min=1, help="number of colours per image")
    iterations: int = param(100, min=1, help="maximum iterations of Lloyd's algorithm")
    engine: str = param("native", choices=("native", "scikit-learn"), help="implementation to run")

    @property
    def stochastic(self) -> bool:
        """True: the initial centroids are random."""
        return True

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns images with at most ``clusters`` colours each."""
        if self.engine == "native":
            points = images.detach().flatten(2).transpose(1, 2)
            draws = rng.uniform(self.clusters, candidates_per_centroid(self.clusters))
            quantised = quantise(points, draws, self.iterations)
            return quantised.transpose(1, 2).reshape(images.shape).contiguous()
        return self._apply_scikit_learn(images, rng)

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the images with soft assignments; see :func:`soft_quantise`."""
        with torch.no_grad():
            output = self.apply(images.detach().clone(), rng)
        return self.approximation_from_output(images, output, rng)

    def approximation_from_output(self, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the images with soft assignments to the clusters of the output; see :func:`soft_quantise`."""
        return _soft_images(images, output, rng, SOFTENINGS[0])

    def approximations(self) -> tuple[Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor], ...]:
        """Returns soft assignments of several temperatures, with several shares of the identity."""
        return tuple(functools.partial(_soft_images, softening=softening) for softening in SOFTENINGS)

    def _apply_scikit_learn(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Clusters each image with scikit-learn.

        The image's distinct colours are clustered, each weighted by its number of pixels: the same objective as on all
        pixels, but faster.
        """
        from sklearn import config_context  # type: ignore[attr-defined]
        from sklearn.exceptions import ConvergenceWarning

        pixels = images.detach().permute(0, 2, 3, 1).cpu().numpy()
        quantised = np.empty_like(pixels)
        # One image is too little work for several threads: synchronising them takes longer than the clustering.
        with (
            _thread_pools().limit(limits=1),
            config_context(assume_finite=True, skip_parameter_validation=True),
            warnings.catch_warnings(),
        ):
            # Colours that differ by less than rounding errors may share a centroid; having fewer clusters does no harm.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for i, seed in enumerate(rng.seeds()):
                points = pixels[i].reshape(-1, pixels.shape[-1])
                quantised[i] = self._quantise(points, seed).reshape(pixels[i].shape)
        return torch.from_numpy(quantised).permute(0, 3, 1, 2).contiguous().to(images.device)

    def _quantise(self, points: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
        """Replaces the pixels of one image, shape (pixels, channels), by their centroids."""
        from sklearn.cluster import KMeans

        colours, colour_of = _unique_rows(points)
        if len(colours) <= self.clusters:
            return points
        kmeans = KMeans(  # type: ignore[no-untyped-call]
            self.clusters,
            init="k-means++",
            n_init=1,
            max_iter=self.iterations,
            tol=0,
            random_state=seed,
            algorithm="lloyd",
            copy_x=False,
        )
        kmeans.fit(colours.astype(np.float64), sample_weight=np.bincount(colour_of).astype(np.float64))
        centroids: npt.NDArray[np.float32] = kmeans.cluster_centers_.astype(np.float32)
        return centroids[kmeans.labels_][colour_of]


def _soft_images(images: torch.Tensor, output: torch.Tensor, rng: SampleRandom, softening: Softening) -> torch.Tensor:
    """Returns images with soft assignments to the clusters of the output."""
    del rng
    points, quantised = (tensor.flatten(2).transpose(1, 2) for tensor in (images, output))
    return soft_quantise(points, quantised, softening).transpose(1, 2).reshape(images.shape)


def _unique_rows(points: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """Returns the distinct rows, and each row's index among them; several times faster than ``np.unique``."""
    order = np.lexsort(points.T)
    ordered = points[order]
    differs = np.concatenate(([True], (ordered[1:] != ordered[:-1]).any(axis=1)))
    position = np.empty(len(points), dtype=np.intp)
    position[order] = np.cumsum(differs) - 1
    return ordered[differs], position


@functools.cache
def _thread_pools() -> Any:
    """Returns the loaded OpenMP and BLAS libraries; finding them takes longer than clustering an image."""
    import sklearn.cluster  # noqa: F401  # loads these libraries
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()
