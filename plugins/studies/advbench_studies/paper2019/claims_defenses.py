"""Claims about the defenses: 2, 3, 4, 5, 8, 9, 14."""

from __future__ import annotations

from collections.abc import Sequence

from advbench_studies.paper2019.claim import (
    ALL_BUT_DEEPFOOL,
    CIFAR10,
    DEFENDED,
    MNIST,
    MOST,
    TITLES,
    UNDEFENDED,
    claim,
    robust,
)
from advbench_studies.paper2019.evidence import View
from advbench_studies.paper2019.setting import ATTACKS, DATASETS, AttackSetting, DatasetSetting
from advbench_studies.paper2019.verdict import Check, Reading, at_least, check, per_cent, points

__all__ = ["DEFENSE_CLAIMS"]

_ABOUT_99 = 0.97
_SEVENTY = 0.70
_HALF = 0.50
_MUCH = 0.10
_WORSE = ("gaussian", "vqvae-0", "vqvae-0.25", "vqvae-0.75")
_BETTER = ("jpeg", "tvm")


@claim(
    2,
    "Every defense improves on the undefended model against every attack.",
    "On each dataset each of the seven defenses has a higher robust accuracy than the undefended model against each "
    "of the four attacks.",
)
def all_defenses_help(view: View) -> list[Check]:
    """Claim 2."""
    return [
        check(
            view.title(dataset),
            f"{TITLES[defense]} against {view.attack_title(dataset, attack)}",
            [robust(view, dataset, attack, defense), robust(view, dataset, attack, UNDEFENDED)],
            lambda after, before: (after - before, f"{per_cent(after)} from {per_cent(before)}"),
            strictly=True,
        )
        for dataset in DATASETS
        for attack in ATTACKS
        for defense in DEFENDED
    ]


@claim(
    3,
    "JPEG keeps about 99 % on MNIST against FGSM, PGD and CW.",
    f"JPEG's robust accuracy on MNIST is at least {per_cent(_ABOUT_99)} against each of the three.",
)
def jpeg_keeps_mnist(view: View) -> list[Check]:
    """Claim 3."""
    return [_exceeds(view, MNIST, attack, "jpeg", _ABOUT_99) for attack in ALL_BUT_DEEPFOOL]


@claim(
    4,
    "TVM is the best defense on CIFAR-10, above 70 % against FGSM, PGD and CW.",
    f"Against each of the three TVM's robust accuracy on CIFAR-10 exceeds {per_cent(_SEVENTY)} and that of every "
    "other defense.",
)
def tvm_is_best_on_cifar10(view: View) -> list[Check]:
    """Claim 4."""
    checks = []
    for attack in ALL_BUT_DEEPFOOL:
        checks.append(_exceeds(view, CIFAR10, attack, "tvm", _SEVENTY, strictly=True))
        checks += [_lead(view, CIFAR10, attack, "tvm", other, strictly=True) for other in DEFENDED if other != "tvm"]
    return checks


@claim(
    5,
    "Without DeepFool, TVM stays at 70 % or more on both datasets.",
    f"TVM's robust accuracy is at least {per_cent(_SEVENTY)} against FGSM, PGD and CW on each dataset.",
)
def tvm_keeps_seventy(view: View) -> list[Check]:
    """Claim 5."""
    return [_exceeds(view, dataset, attack, "tvm", _SEVENTY) for dataset in DATASETS for attack in ALL_BUT_DEEPFOOL]


@claim(
    8,
    "K-means exceeds 50 % on MNIST.",
    f"The robust accuracy of k-means on MNIST exceeds {per_cent(_HALF)} against FGSM, PGD and CW.",
)
def kmeans_exceeds_half(view: View) -> list[Check]:
    """Claim 8."""
    return [_exceeds(view, MNIST, attack, "kmeans", _HALF, strictly=True) for attack in ALL_BUT_DEEPFOOL]


@claim(
    9,
    "Gaussian smoothing and VQ-VAE do much worse than JPEG and TVM.",
    f"Against FGSM, PGD and CW on each dataset, Gaussian smoothing and each VQ-VAE are at least {100 * _MUCH:.0f} "
    "points below both JPEG and TVM.",
)
def gaussian_and_vqvae_are_worse(view: View) -> list[Check]:
    """Claim 9."""
    return [
        _lead(view, dataset, attack, better, worse, lead=_MUCH)
        for dataset in DATASETS
        for attack in ALL_BUT_DEEPFOOL
        for worse in _WORSE
        for better in _BETTER
    ]


@claim(
    14,
    "The defenses do better on MNIST than on CIFAR-10.",
    "Each of the seven defenses has a higher robust accuracy on MNIST than on CIFAR-10 against at least three of the "
    "four attacks.",
    compares_datasets=True,
)
def mnist_is_easier(view: View) -> list[Check]:
    """Claim 14."""
    both = " and ".join(view.title(dataset) for dataset in DATASETS)
    checks = []
    for defense in DEFENDED:
        single = [
            check(
                both,
                attack.title,
                [robust(view, dataset, attack, defense) for dataset in DATASETS],
                lambda mnist, cifar10: (mnist - cifar10, f"{per_cent(mnist)} and {per_cent(cifar10)}"),
                strictly=True,
            )
            for attack in ATTACKS
        ]
        checks.append(at_least(MOST, both, TITLES[defense], single))
    return checks


def _exceeds(
    view: View, dataset: DatasetSetting, attack: AttackSetting, defense: str, bound: float, *, strictly: bool = False
) -> Check:
    """Whether a defense's robust accuracy reaches a bound."""
    return check(
        view.title(dataset),
        f"{TITLES[defense]} against {view.attack_title(dataset, attack)}",
        [robust(view, dataset, attack, defense)],
        lambda accuracy: (accuracy - bound, per_cent(accuracy)),
        strictly=strictly,
    )


def _lead(
    view: View,
    dataset: DatasetSetting,
    attack: AttackSetting,
    better: str,
    worse: str,
    *,
    lead: float = 0.0,
    strictly: bool = False,
) -> Check:
    """Whether one defense leads another by so much."""
    readings: Sequence[Reading] = [robust(view, dataset, attack, defense) for defense in (better, worse)]
    return check(
        view.title(dataset),
        f"{TITLES[better]} over {TITLES[worse]} against {view.attack_title(dataset, attack)}",
        readings,
        lambda high, low: (high - low - lead, f"{points(high - low)} ({per_cent(high)}, {per_cent(low)})"),
        strictly=strictly,
    )


DEFENSE_CLAIMS = (
    all_defenses_help,
    jpeg_keeps_mnist,
    tvm_is_best_on_cifar10,
    tvm_keeps_seventy,
    kmeans_exceeds_half,
    gaussian_and_vqvae_are_worse,
    mnist_is_easier,
)
