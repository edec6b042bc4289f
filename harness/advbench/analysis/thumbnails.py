"""Samples of a cell as small pictures with what was predicted for them: what the run's HTML page shows."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from advbench.analysis.example_images import Views

__all__ = ["LARGEST", "amplification", "data_uri", "sample_rows"]

LARGEST = 128
"""Largest width and height of images, in pixels; larger images are scaled down."""

_SCALES = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)

_Pixels = npt.NDArray[np.float32]


def sample_rows(
    ids: Sequence[int], labels: Sequence[int], clean: Views, adversarial: Views, defended: Views
) -> dict[str, Any]:
    """Samples as plain data.

    Args:
        ids: The sample ids; at least one.
        labels: The true labels.
        clean: The clean images.
        adversarial: The adversarial images.
        defended: The adversarial images after the defense.

    Returns:
        ``rows``, one for each sample: its ``id`` and ``label``; ``clean``, ``adversarial`` and ``defended``, each the
        image as a data URI, the predicted class and the confidence in per cent; and the ``difference`` of the first two
        images as a data URI. ``scale``: the factor of all differences, see :func:`amplification`. ``reduced``: whether
        the images were scaled down.
    """
    difference = adversarial.images - clean.images
    scale = amplification(difference)
    rows = [
        {
            "id": int(sample),
            "label": int(labels[at]),
            "clean": _view(clean, at),
            "adversarial": _view(adversarial, at),
            "difference": data_uri(0.5 + scale * difference[at], quality=50),
            "defended": _view(defended, at),
        }
        for at, sample in enumerate(ids)
    ]
    return {"scale": scale, "reduced": max(clean.images.shape[2:]) > LARGEST, "rows": rows}


def _view(views: Views, at: int) -> list[Any]:
    return [data_uri(views.images[at]), int(views.predictions[at]), f"{100 * views.confidences[at]:.0f}"]


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
