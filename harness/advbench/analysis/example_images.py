"""ExampleImages: a few samples of a cell as images, with what the model says of each, for people to look at."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

__all__ = ["CellExamples", "Views"]


@dataclasses.dataclass(frozen=True)
class Views:
    """Images, and what the model says of each.

    Attributes:
        images: float32 in [0, 1], shape (n, channels, height, width).
        predictions: The classes, int64, shape (n,).
        confidences: The softmax probability of each of them, float32, shape (n,).
    """

    images: npt.NDArray[np.float32]
    predictions: npt.NDArray[np.int64]
    confidences: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class CellExamples:
    """The same samples in four states; the model says what it does of the image as it stands, behind no other defense.

    Attributes:
        ids: The sample ids.
        labels: The true labels, int64, shape (n,).
        clean: As they are.
        adversarial: As the attack left them.
        defended: The adversarial ones after the defense, in the draw that the cell was scored with.
        defended_clean: The clean ones after the defense, in the same draw.
        class_names: The names of the classes, where they have some.
    """

    ids: tuple[int, ...]
    labels: npt.NDArray[np.int64]
    clean: Views
    adversarial: Views
    defended: Views
    defended_clean: Views
    class_names: tuple[str, ...] = ()

    def class_name(self, number: int) -> str:
        """What a class is called: its name, or its number where it has none."""
        return (self.class_names[number] if number < len(self.class_names) else "") or str(number)
