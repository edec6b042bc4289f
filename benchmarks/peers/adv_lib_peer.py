"""Attacks of adv-lib."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.settings import Run, Settings

__all__ = ["attacks"]


def attacks(settings: Settings) -> dict[str, Run]:
    """Returns the attacks of adv-lib by comparison. Its CW stops a batch whose loss no longer falls.

    Raises:
        ImportError: adv-lib is not installed.
    """
    from adv_lib.attacks import apgd, carlini_wagner_l2, ddn, df, fmn  # type: ignore[import-not-found,unused-ignore]

    def make_run(attack: Callable[..., torch.Tensor], **keywords: Any) -> Run:
        return lambda network, images, labels: attack(network, images, labels, **keywords)

    return {
        "deepfool": make_run(df, steps=settings.deepfool_steps, overshoot=0.02),
        "cw": make_run(
            carlini_wagner_l2, binary_search_steps=settings.search_steps, max_iterations=settings.cw_steps,
            learning_rate=0.01, initial_const=0.01, confidence=0,
        ),
        "ddn": make_run(ddn, steps=settings.ddn_steps, levels=None),
        "fmn": make_run(fmn, norm=2, steps=settings.ddn_steps),
        "apgd": make_run(
            apgd, eps=settings.eps, norm=float("inf"), n_iter=settings.steps, loss_function="ce"
        ),
    }  # fmt: skip
