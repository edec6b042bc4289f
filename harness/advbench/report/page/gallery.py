"""What a page shows of single cells beyond their numbers: confusion, distances, samples."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from advbench.analysis import CellExamples, Views

__all__ = ["LARGEST", "Gallery", "amplification", "data_uri"]

LARGEST = 128
"""Images are shown with so many pixels a side at most; larger ones are reduced."""

_SCALES = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)

_Pixels = npt.NDArray[np.float32]


class Gallery:
    """Collects details cell by cell; images that several cells share are kept once.

    Attributes:
        size: How many characters the images take.
    """

    def __init__(self) -> None:
        self.size = 0
        self._images: dict[str, int] = {}
        self._cells: dict[str, dict[str, Any]] = {}
        self._notes: list[str] = []

    @property
    def details(self) -> dict[str, Any]:
        """What is collected, as plain data.

        ``cells`` by their place among the results' cells, ``images`` as data URIs, and ``notes``, the reasons why some
        cells have no samples.
        """
        return {"cells": self._cells, "images": list(self._images), "notes": self._notes}

    def add(self, place: int, details: Mapping[str, Any]) -> None:
        """Adds what a record tells, as :func:`~advbench.analysis.cell_details` gives it."""
        self._cells[str(place)] = {**self._cells.get(str(place), {}), **details}

    def add_note(self, text: str) -> None:
        """Says why samples of some cells are not shown."""
        if text not in self._notes:
            self._notes.append(text)

    def add_samples(self, place: int, examples: CellExamples, room: float = math.inf) -> None:
        """Adds a cell's samples.

        Their differences are amplified by one factor, the largest of a few round ones by which none is cut off.

        Args:
            place: The cell's place among the results' cells.
            examples: The samples.
            room: How many characters their images should take; once they take more, the rest is left out.
        """
        if not len(examples.ids):
            return
        before = self.size
        difference = examples.adversarial.images - examples.clean.images
        scale = amplification(difference)
        rows = []
        for at, sample in enumerate(examples.ids):
            if at and self.size - before >= room * at / (at + 1):
                break
            shown = 0.5 + scale * difference[at]
            rows.append(
                {
                    "id": sample,
                    "label": int(examples.labels[at]),
                    "clean": self._view(examples.clean, at),
                    "adversarial": self._view(examples.adversarial, at),
                    "difference": self._image(shown),
                    "defended": self._view(examples.defended, at),
                }
            )
        reduced = max(examples.clean.images.shape[2:]) > LARGEST
        self.add(place, {"samples": {"scale": scale, "reduced": reduced, "rows": rows}})

    def _view(self, views: Views, at: int) -> list[Any]:
        """The image's place, what it is taken for, and how surely in per cent."""
        return [self._image(views.images[at]), int(views.predictions[at]), f"{100 * views.confidences[at]:.0f}"]

    def _image(self, pixels: _Pixels) -> int:
        uri = data_uri(pixels)
        if uri not in self._images:
            self._images[uri] = len(self._images)
            self.size += len(uri)
        return self._images[uri]


def data_uri(pixels: _Pixels) -> str:
    """An image (channels, height, width) in [0, 1] as a PNG in a data URI, rounded to 8 bits, large ones reduced."""
    levels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    if len(levels) not in (1, 3):  # neither grey nor colour: the first channel
        levels = levels[:1]
    picture = Image.fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))
    if max(picture.size) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def amplification(difference: _Pixels) -> int:
    """The largest round factor by which a difference stays within half the range; 1 where none does."""
    largest = float(np.abs(difference).max())
    if largest <= 0 or not math.isfinite(largest):
        return 1
    return max(factor for factor in _SCALES if factor == 1 or factor * largest <= 0.5 + 1e-6)
