"""Example images: a few samples of a cell with the model's predictions, for figures and reports."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

__all__ = ["SHOWN_SAMPLES", "CellExamples", "Views"]

SHOWN_SAMPLES = 6
"""Default number of samples that are shown for each cell; scoring a cell stores as many."""


@dataclasses.dataclass(frozen=True)
class Views:
    """Images with the model's predictions.

    Attributes:
        images: float32 in [0, 1], shape (n, channels, height, width).
        predictions: The predicted classes, int64, shape (n,).
        confidences: The softmax probabilities of these classes, float32, shape (n,).
    """

    images: npt.NDArray[np.float32]
    predictions: npt.NDArray[np.int64]
    confidences: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class CellExamples:
    """The same samples in four states, with the undefended model's predictions of each state.

    Attributes:
        ids: The sample ids.
        labels: The true labels, int64, shape (n,).
        clean: The clean images.
        adversarial: The adversarial images.
        defended: The adversarial images after the defense, with the draw that the cell was scored with.
        defended_clean: The clean images after the defense, with the same draw.
        class_names: The names of the classes; empty if they have none.
    """

    ids: tuple[int, ...]
    labels: npt.NDArray[np.int64]
    clean: Views
    adversarial: Views
    defended: Views
    defended_clean: Views
    class_names: tuple[str, ...] = ()

    def class_name(self, number: int) -> str:
        """The name of a class, or its number if it has none."""
        return (self.class_names[number] if number < len(self.class_names) else "") or str(number)
