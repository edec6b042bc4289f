"""Claims that need weights which do not come with advbench: 19, 20, 22."""

from __future__ import annotations

from advbench_studies.paper2019.claim import MNIST, NO_VARIANTS, claim
from advbench_studies.paper2019.comparison import GAIN, helps, negated
from advbench_studies.paper2019.evidence import View
from advbench_studies.paper2019.setting import DATASETS, IMAGES, Wanted
from advbench_studies.paper2019.verdict import Check, at_least, check, per_cent, points

__all__ = ["WEIGHTS_CLAIMS"]

_PAPERS: Wanted = {"noise": 0}
_SIZES = ((128, 512), (128, 256), (256, 256))
"""Channels and code words of the grid, without the paper's 256 and 512."""

_GAUSSIAN: Wanted = {"noise": 0.25}
_OTHER_NOISES: dict[str, Wanted] = {
    "uniform noise": {"noise": 0.433, "noise_kind": "uniform"},
    "salt-and-pepper noise": {"noise": 0.03, "noise_kind": "salt-and-pepper"},
}


@claim(
    19,
    "A coarse grid over latent space and hidden size does not improve the VQ-VAE.",
    "On MNIST, three VQ-VAEs are trained without noise like the paper's, which has 256 channels and 512 code words: "
    "with 128 channels and 512 words, 128 and 256, and 256 and 256. None of them is at least "
    f"{100 * GAIN:.0f} point above the paper's against three of the four attacks.",
    not_adaptive=NO_VARIANTS,
)
def a_grid_does_not_help(view: View) -> list[Check]:
    """Claim 19."""
    return [
        negated(
            helps(
                view,
                MNIST,
                [_PAPERS],
                [{"noise": 0, "hidden": hidden, "words": words}],
                f"a VQ-VAE with {hidden} channels and {words} words",
            )
        )
        for hidden, words in _SIZES
    ]


@claim(
    20,
    "Retraining the classifier on reconstructions raises its accuracy behind the VQ-VAE.",
    "On each dataset the classifier is trained again, on the VQ-VAE's reconstructions of the training images. Behind "
    "the VQ-VAE without noise, it classifies more of the same clean test images correctly than the original does. No "
    "attack takes part, so the verdict is the same with all of them.",
)
def retraining_helps(view: View) -> list[Check]:
    """Claim 20."""
    checks = []
    for dataset in DATASETS:
        after, before = (
            view.evidence.clean(dataset, "vqvae", _PAPERS, retrained=retrained) for retrained in (True, False)
        )
        changed = after.images is not None and after.images != IMAGES
        title = f"{dataset.title} ({after.images:,} images, not {IMAGES:,})" if changed else dataset.title
        checks.append(
            check(
                title,
                "clean accuracy with retraining and without",
                [after, before],
                lambda high, low: (high - low, f"{per_cent(high)} and {per_cent(low)}, {points(high - low)}"),
                strictly=True,
            )
        )
    return checks


@claim(
    22,
    "Training noise of other kinds, salt-and-pepper or uniform, helps more than Gaussian (the paper's future work).",
    "On MNIST, two VQ-VAEs are trained with uniform noise of half-width 0.433 and with salt-and-pepper noise on 3 % of "
    "the values. Both have the variance of Gaussian noise of standard deviation 0.25. At least one of them is at least "
    f"{100 * GAIN:.0f} point above the VQ-VAE trained with this Gaussian noise against three of the four attacks.",
    not_adaptive=NO_VARIANTS,
)
def other_noise_helps_more(view: View) -> list[Check]:
    """Claim 22."""
    kinds = [helps(view, MNIST, [_GAUSSIAN], [wanted], kind) for kind, wanted in _OTHER_NOISES.items()]
    return [at_least(1, view.title(MNIST), "kinds of noise that help more than Gaussian:", kinds)]


WEIGHTS_CLAIMS = (a_grid_does_not_help, retraining_helps, other_noise_helps_more)
