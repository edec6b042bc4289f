"""Details of single cells for the page: confusion matrices, distances and samples."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from advbench.analysis import CellExamples, Views

__all__ = ["LARGEST", "Gallery", "amplification", "data_uri"]

LARGEST = 128
"""Largest width and height of images, in pixels; larger images are scaled down."""

_SCALES = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)

_Pixels = npt.NDArray[np.float32]


class Gallery:
    """Collects the details of cells; images that several cells share are stored once.

    Attributes:
        size: Total length of the images' data URIs, in characters.
    """

    def __init__(self) -> None:
        self.size = 0
        self._images: dict[str, int] = {}
        self._cells: dict[str, dict[str, Any]] = {}
        self._notes: list[str] = []

    @property
    def details(self) -> dict[str, Any]:
        """The collected details, as plain data.

        ``cells`` by their index in the results, ``images`` as data URIs, and ``notes`` on the samples, such as the
        reasons why some cells have none.
        """
        return {"cells": self._cells, "images": list(self._images), "notes": self._notes}

    def add(self, index: int, details: Mapping[str, Any]) -> None:
        """Adds the details of a record, from :func:`~advbench.analysis.cell_details`."""
        self._cells[str(index)] = {**self._cells.get(str(index), {}), **details}

    def add_note(self, text: str) -> None:
        """Adds a note on the samples, or on why some cells have none; once."""
        if text not in self._notes:
            self._notes.append(text)

    def add_samples(self, index: int, examples: CellExamples, limit: float = math.inf) -> None:
        """Adds the samples of a cell.

        Their differences are amplified by one factor, see :func:`amplification`.

        Args:
            index: The cell's index in the results.
            examples: The samples.
            limit: Approximate limit of the size of their images, in characters; further samples are omitted.
        """
        if not len(examples.ids):
            return
        before = self.size
        difference = examples.adversarial.images - examples.clean.images
        scale = amplification(difference)
        rows = []
        for at, sample in enumerate(examples.ids):
            if at and self.size - before >= limit * at / (at + 1):
                break
            shown = 0.5 + scale * difference[at]
            rows.append(
                {
                    "id": sample,
                    "label": int(examples.labels[at]),
                    "clean": self._view(examples.clean, at),
                    "adversarial": self._view(examples.adversarial, at),
                    "difference": self._image(shown, quality=50),
                    "defended": self._view(examples.defended, at),
                }
            )
        reduced = max(examples.clean.images.shape[2:]) > LARGEST
        self.add(index, {"samples": {"scale": scale, "reduced": reduced, "rows": rows}})

    def _view(self, views: Views, at: int) -> list[Any]:
        """The index of the image, its predicted class, and the confidence in per cent."""
        return [self._image(views.images[at]), int(views.predictions[at]), f"{100 * views.confidences[at]:.0f}"]

    def _image(self, pixels: _Pixels, quality: int = 85) -> int:
        uri = data_uri(pixels, quality)
        if uri not in self._images:
            self._images[uri] = len(self._images)
            self.size += len(uri)
        return self._images[uri]


def data_uri(pixels: _Pixels, quality: int = 85) -> str:
    """Encodes an image, shape (channels, height, width), in [0, 1], as a data URI.

    Small images are PNG files, which have every pixel. Large ones are scaled down, so that no pixel is kept anyway;
    they are JPEG files of the given quality, which have a fifth of the size.
    """
    from PIL import Image  # only needed when there are images

    levels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    if len(levels) not in (1, 3):  # neither grey nor RGB: show the first channel
        levels = levels[:1]
    picture = Image.fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))
    content = io.BytesIO()
    if max(picture.size) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
        picture.save(content, "JPEG", quality=quality, subsampling=0)
        kind = "jpeg"
    else:
        picture.save(content, "PNG", optimize=True)
        kind = "png"
    return f"data:image/{kind};base64," + base64.b64encode(content.getvalue()).decode()


def amplification(difference: _Pixels) -> int:
    """The largest of some round factors with which a difference stays within ±0.5; at least 1."""
    largest = float(np.abs(difference).max())
    if largest <= 0 or not math.isfinite(largest):
        return 1
    return max(factor for factor in _SCALES if factor == 1 or factor * largest <= 0.5 + 1e-6)
