"""Measures of a cell on resampled images: how much a number depends on the images that were drawn."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from advbench.results import attack_succeeded, error_spread, robust_bits

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["RESAMPLES", "Outcomes", "resampled_spread"]

RESAMPLES = 1000
"""How often the images are drawn again, with replacement (Efron 1979, the bootstrap)."""


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """The outcomes of a cell's samples, all of shape (samples,).

    All cells on the same images are resampled alike, so that differences between them are paired.

    Attributes:
        images: What identifies the images.
        robust: The share of draws of the defense with which a sample withstands the attack.
        clean: The same without an attack.
        l2: L2 distances of the adversarial images; NaN if the image does not fool the attacked model.
        errors: For each sample, (label, prediction) of the adversarial image.
    """

    images: str
    robust: Floats
    clean: Floats
    l2: Floats
    errors: npt.NDArray[np.int64]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Outcomes:
        """Reads the record of a finished cell."""
        import numpy as np

        def share(draws: Any, single: Any) -> Floats:
            return np.asarray(np.asarray(draws or [single], dtype=float).mean(axis=0))

        labels, predictions = np.asarray(record["labels"]), np.asarray(record["adversarial_predictions"])
        return cls(
            f"{record['dataset']} {labels.tolist()}",  # other images have other labels
            share(record.get("robust_draws"), robust_bits(record)),
            share(record.get("clean_correct_draws"), record["clean_correct"]),
            np.where(attack_succeeded(record), np.asarray(record["l2"], dtype=float), np.nan),
            np.stack([labels, predictions], axis=1),
        )

    def resampled(self, measure: str) -> Floats:
        """A measure, by its name in results.json, of each resample; shape (resamples,)."""
        import numpy as np

        weights = self.weights()
        if measure == "median_l2":
            return _weighted_medians(self.l2, weights)
        values = {"robust_accuracy": self.robust, "clean_accuracy": self.clean}[measure]
        return np.asarray(weights @ values / len(values))

    def fooled(self) -> int:
        """How many images fool the attacked model."""
        import numpy as np

        return int((~np.isnan(self.l2)).sum())

    def weights(self) -> Floats:
        """How often each sample is drawn in each resample; shape (resamples, samples)."""
        return _weights(self.images, len(self.robust))


def resampled_spread(outcomes: Sequence[Outcomes]) -> list[float]:
    """The spread of errors of several attacks together on resampled images; see :func:`advbench.results.error_spread`.

    Args:
        outcomes: The outcomes of the attacks on the same images.
    """
    import numpy as np

    errors = np.concatenate([one.errors for one in outcomes])
    weights = np.concatenate([one.weights() for one in outcomes], axis=1)
    classes = int(errors.max()) + 1
    pairs = np.eye(classes * classes)[errors[:, 0] * classes + errors[:, 1]]
    matrices = (weights @ pairs).reshape(len(weights), classes, classes)
    return [error_spread(matrix)[0] for matrix in matrices.tolist()]


@functools.lru_cache(maxsize=8)
def _weights(images: str, count: int) -> Floats:
    import numpy as np

    seed = int.from_bytes(hashlib.sha256(images.encode()).digest()[:8], "big")
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn.astype(np.float64)


def _weighted_medians(values: Floats, weights: Floats) -> Floats:
    """The median of the values that are numbers, each as often as its weight; shape (resamples,)."""
    import numpy as np

    known = ~np.isnan(values)
    order = np.argsort(values[known])
    ordered, cumulated = values[known][order], weights[:, known][:, order].cumsum(axis=1)
    if not len(ordered):
        return np.full(len(weights), np.nan)
    positions = (cumulated < cumulated[:, -1:] / 2).sum(axis=1).clip(max=len(ordered) - 1)
    return np.asarray(ordered[positions])
