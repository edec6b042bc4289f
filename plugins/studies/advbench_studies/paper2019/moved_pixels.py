"""How many pixels an attack moves to black or white."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["moved_to_bounds"]


def moved_to_bounds(clean: npt.NDArray[np.float32], adversarial: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """For each image, the share of its pixels that an attack moved to 0 or 255 of 8 bits, to which JPEG rounds.

    A pixel that was there before does not count, nor one that moved by less than rounding shows. Each channel of a
    pixel counts by itself.

    Args:
        clean: Clean images in [0, 1], shape (samples, channels, height, width).
        adversarial: The adversarial images, of the same shape.

    Returns:
        Shares, shape (samples,).
    """
    import numpy as np

    before, after = (np.rint(np.clip(images, 0, 1) * 255) for images in (clean, adversarial))
    moved = ((after == 0) | (after == 255)) & (after != before)
    return np.asarray(moved.reshape(len(moved), -1).mean(axis=1))
