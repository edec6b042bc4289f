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
from advbench_defenses.seeding import candidates

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["KMeansQuantisation"]


@dataclass(frozen=True)
class KMeansQuantisation(Defense):
    """Replaces each pixel by the centroid of its cluster, from k-means over the image's own colours.

    A pixel is a point with one coordinate a channel; each image is clustered by itself, with Lloyd's algorithm
    from one start: centroids drawn far from one another, as in scikit-learn by default (greedy k-means++). An image
    with no more distinct colours than there are clusters is returned as it is.

    With ``engine=scikit-learn`` scikit-learn clusters the images one by one, from other random starts.

    Args:
        clusters: Most colours that an image keeps.
        iterations: Most iterations of Lloyd's algorithm; it ends earlier when no pixel changes its cluster.
        engine: Whose implementation runs.
    """

    name = "kmeans"
    self_contained = True
    source = (
        "Lloyd 1982, Least squares quantization in PCM (the algorithm), on the colours of each image; Arthur and "
        "Vassilvitskii 2007, k-means++: The Advantages of Careful Seeding (the start)"
    )
    depends_on = ("scikit-learn",)
    clusters: int = param(16, min=1, help="colours that an image keeps")
    iterations: int = param(100, min=1, help="most iterations of Lloyd's algorithm")
    engine: str = param("native", choices=("native", "scikit-learn"), help="whose implementation runs")

    @property
    def stochastic(self) -> bool:
        """Always: the initial centroids are drawn."""
        return True

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns images of at most ``clusters`` colours each."""
        if self.engine == "native":
            points = images.detach().flatten(2).transpose(1, 2)
            draws = rng.uniform(self.clusters, candidates(self.clusters))
            found = quantise(points, draws, self.iterations)
            return found.transpose(1, 2).reshape(images.shape).contiguous()
        return self._one_by_one(images, rng)

    def _one_by_one(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """The images, each clustered by scikit-learn.

        What is clustered are the image's distinct colours, each weighted by the number of its pixels: the same
        objective as on the pixels, and quicker.
        """
        from sklearn import config_context  # type: ignore[attr-defined]
        from sklearn.exceptions import ConvergenceWarning

        pixels = images.detach().permute(0, 2, 3, 1).cpu().numpy()
        quantised = np.empty_like(pixels)
        # An image is too little work for several threads, whose synchronising takes longer than the clustering.
        with (
            _thread_pools().limit(limits=1),
            config_context(assume_finite=True, skip_parameter_validation=True),
            warnings.catch_warnings(),
        ):
            # Colours that are distinct but nearer than rounding errors may share a centroid: fewer clusters, no harm.
            warnings.simplefilter("ignore", ConvergenceWarning)
            for i, seed in enumerate(rng.seeds()):
                points = pixels[i].reshape(-1, pixels.shape[-1])
                quantised[i] = self._quantise(points, seed).reshape(pixels[i].shape)
        return torch.from_numpy(quantised).permute(0, 3, 1, 2).contiguous().to(images.device)

    def _quantise(self, points: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
        """The pixels of one image, shape (pixels, channels), each replaced by its centroid."""
        from sklearn.cluster import KMeans

        colours, colour_of = _distinct(points)
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


def _distinct(points: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.intp]]:
    """The distinct rows, and for each row its position among them; several times as quick as ``np.unique``."""
    order = np.lexsort(points.T)
    ordered = points[order]
    differs = np.concatenate(([True], (ordered[1:] != ordered[:-1]).any(axis=1)))
    position = np.empty(len(points), dtype=np.intp)
    position[order] = np.cumsum(differs) - 1
    return ordered[differs], position


@functools.cache
def _thread_pools() -> Any:
    """The OpenMP and BLAS libraries that are loaded; finding them takes longer than clustering an image."""
    import sklearn.cluster  # noqa: F401  # loads the libraries that are to be found
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()
