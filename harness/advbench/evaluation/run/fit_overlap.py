"""Checks that the images to which components are fitted are none of those that a run attacks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from advbench.api import LabelledImages
from advbench.errors import UsageError
from advbench.evaluation.plan.build import Plan
from advbench.evaluation.plan.cells import DefenseFit, Fit, full, short
from advbench.option_names import option

__all__ = ["check_fit_images"]

_STEP = 1000
"""How many images are compared at a time, which bounds the memory."""


def check_fit_images(plan: Plan, images: Mapping[str, LabelledImages]) -> None:
    """Compares the pixels of the images for fits with those of the run's samples.

    Their ids are compared when the plan is built; but another dataset may hold the same images.

    Args:
        plan: The plan.
        images: The datasets by their specs; those that could not be read are left out.

    Raises:
        UsageError: Some images are in both.
    """
    compared = set()
    for cell in plan.cells:
        fits: list[tuple[str, Fit | DefenseFit | None]]
        fits = [(f"attack {short(cell.attack)!r}", chunk.fit) for chunk in cell.chunks[:1]]
        fits += [(f"defense {short(fit.defense.parts[fit.part])!r}", fit) for fit in cell.defense_fits]
        for component, fit in fits:
            if fit is None or not {full(fit.dataset), full(cell.dataset)} <= images.keys():
                continue
            pair = id(fit.ids), id(cell.ids)  # the plan holds both
            if pair in compared:
                continue
            compared.add(pair)
            shared = len(_digests(images[full(fit.dataset)], fit.ids) & _digests(images[full(cell.dataset)], cell.ids))
            if shared:
                raise UsageError(
                    f"{component} is fitted to images that the run does not evaluate, and "
                    f"{shared:,} of its {len(fit.ids):,} images of {short(fit.dataset)} have the pixels of samples of "
                    f"{short(cell.dataset)} in the run; give other images with "
                    f"{option('fit_data', 'SPEC')}, or fewer samples with {option('limit', 'N')}"
                )


def _digests(data: LabelledImages, ids: Sequence[int]) -> set[bytes]:
    """The digests of the pixels of some samples."""
    return {
        hashlib.sha256(image.tobytes()).digest()
        for start in range(0, len(ids), _STEP)
        for image in data.take(ids[start : start + _STEP])[0].numpy()
    }
