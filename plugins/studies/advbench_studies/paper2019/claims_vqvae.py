"""Claims about the VQ-VAE: 10, 11, 17."""

from __future__ import annotations

from collections.abc import Sequence

from advbench.results import error_spread, sum_matrices
from advbench_studies.paper2019.claim import CIFAR10, MNIST, NO_VARIANTS, TITLES, claim, setting
from advbench_studies.paper2019.comparison import GAIN, helps, negated
from advbench_studies.paper2019.evidence import View
from advbench_studies.paper2019.resampling import resampled_spread
from advbench_studies.paper2019.setting import ATTACKS, DATASETS, DatasetSetting, Wanted
from advbench_studies.paper2019.verdict import Check, Reading, check

__all__ = ["VQVAE_CLAIMS"]

_LESS_SPREAD = 0.05
_FEWEST_ERRORS = 30
_PAPERS_NOISE = (0.25, 0.75)
_HIGHEST = 1.0


@claim(
    10,
    "Noise in the VQ-VAE's training helps on MNIST and does not on CIFAR-10.",
    f"The better of noise 0.25 and 0.75 is at least {100 * GAIN:.0f} point above noise 0 against at least three of "
    "the four attacks on MNIST, and not so on CIFAR-10.",
    compares_datasets=True,
)
def noise_helps_on_mnist_alone(view: View) -> list[Check]:
    """Claim 10."""
    return [
        _noise_helps(view, MNIST, [0.0], _PAPERS_NOISE),
        negated(_noise_helps(view, CIFAR10, [0.0], _PAPERS_NOISE)),
    ]


@claim(
    11,
    "Noise beyond 1.0 helps on neither dataset.",
    f"On each dataset a VQ-VAE trained with noise above 1.0 is not at least {100 * GAIN:.0f} point above the best "
    "of noise 0, 0.25 and 0.75 against three of the four attacks.",
    not_adaptive=NO_VARIANTS,
)
def more_noise_does_not_help(view: View) -> list[Check]:
    """Claim 11."""
    checks = []
    for dataset in DATASETS:
        strong = [noise for noise in view.settings("vqvae", "noise", dataset) if noise > _HIGHEST]
        if strong:
            checks += [negated(_noise_helps(view, dataset, (0.0, *_PAPERS_NOISE), [noise])) for noise in strong]
        else:
            missing = (f"vqvae with noise above {_HIGHEST:g} on {dataset.title} not run",)
            checks.append(Check(view.title(dataset), "noise above 1.0", "", None, missing=missing))
    return checks


@claim(
    17,
    "JPEG's errors concentrate on particular pairs of classes, the VQ-VAE's are spread over many.",
    "An error is an adversarial image that the defended model takes for another class. The spread of a defense's "
    "errors, those of all four attacks together, is 0 if all of them take the same class for the same other one, and 1 "
    "if they are spread over all pairs (label, prediction) as evenly as their number allows: it is the entropy over "
    "the pairs, divided by the largest possible one. On each dataset, the spread of JPEG's errors is at least "
    f"{_LESS_SPREAD:g} below that of the VQ-VAE without noise. Both need at least {_FEWEST_ERRORS} errors.",
)
def jpegs_errors_are_concentrated(view: View) -> list[Check]:
    """Claim 17."""
    return [
        check(
            view.title(dataset),
            "spread of errors, JPEG and VQ-VAE 0",
            [_spread(view, dataset, "jpeg"), _spread(view, dataset, "vqvae-0")],
            lambda jpeg, vqvae: (vqvae - jpeg - _LESS_SPREAD, f"{jpeg:.2f} and {vqvae:.2f}"),
        )
        for dataset in DATASETS
    ]


def _spread(view: View, dataset: DatasetSetting, defense: str) -> Reading:
    """The normalised entropy of a defense's errors against all attacks."""
    component, wanted = setting(dataset, defense)
    cells = [view.cell(dataset, attack, component, wanted) for attack in ATTACKS]
    matrices, outcomes = [], []
    for attack in ATTACKS:
        outcomes.append(view.outcomes(dataset, attack, component, wanted))
        matrix = view.confusion(dataset, attack, component, wanted)
        if matrix is None:
            reading = view.reading(dataset, attack, component, wanted)
            return Reading(None, reading.missing or f"predictions of {TITLES[defense]} on {dataset.title}")
        matrices.append(matrix)
    spread, errors = error_spread(sum_matrices(matrices))
    few = next((few for cell in cells if cell is not None and (few := view.too_few(dataset, cell))), "")
    if errors < _FEWEST_ERRORS:
        few = few or f"{errors} errors of {TITLES[defense]} on {dataset.title}"
    known = [one for one in outcomes if one is not None]
    return Reading(spread, "", resampled_spread(known) if len(known) == len(ATTACKS) else None, None, few)


def _noise_helps(view: View, dataset: DatasetSetting, base: Sequence[float], better: Sequence[float]) -> Check:
    """Whether the best VQ-VAE with one of some noises beats the best with one of the others against most attacks."""
    before: list[Wanted] = [{"noise": noise} for noise in base]
    after: list[Wanted] = [{"noise": noise} for noise in better]
    return helps(view, dataset, before, after, f"noise {' or '.join(f'{noise:g}' for noise in better)}")


VQVAE_CLAIMS = (noise_helps_on_mnist_alone, more_noise_does_not_help, jpegs_errors_are_concentrated)
