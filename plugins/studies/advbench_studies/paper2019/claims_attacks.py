"""Claims about the attacks and the undefended models: 1, 6, 7, 15, 16."""

from __future__ import annotations

from advbench_studies.paper2019.claim import (
    DEEPFOOL,
    DEFENDED,
    PGD,
    TITLES,
    UNDEFENDED,
    claim,
    robust,
    setting,
)
from advbench_studies.paper2019.evidence import View
from advbench_studies.paper2019.setting import ATTACKS, DATASETS, AttackSetting, DatasetSetting
from advbench_studies.paper2019.verdict import Check, Reading, at_least, check, per_cent, points

__all__ = ["ATTACK_CLAIMS"]

_FALLEN = 0.0005
_LITTLE = 0.10
_BELOW = 0.01


@claim(
    1,
    "Every attack brings the undefended models to 0 %.",
    "The undefended model's robust accuracy is 0.0 %, rounded, against each attack, on each dataset.",
)
def undefended_models_fall(view: View) -> list[Check]:
    """Claim 1."""
    return [
        check(
            view.title(dataset),
            view.attack_title(dataset, attack),
            [robust(view, dataset, attack, UNDEFENDED)],
            lambda accuracy: (_FALLEN - accuracy, per_cent(accuracy)),
            few=0,  # it is about these images: none of them is left
        )
        for dataset in DATASETS
        for attack in ATTACKS
    ]


@claim(
    6,
    "DeepFool resists the defenses best; every improvement is under 10 points.",
    f"On each dataset every defense's robust accuracy against DeepFool is less than {100 * _LITTLE:.0f} points above "
    "the undefended model's, and most of the seven defenses have their lowest robust accuracy against DeepFool.",
)
def deepfool_resists(view: View) -> list[Check]:
    """Claim 6."""
    checks = []
    for dataset in DATASETS:
        before = robust(view, dataset, DEEPFOOL, UNDEFENDED)
        checks += [
            check(
                view.title(dataset),
                TITLES[defense],
                [robust(view, dataset, DEEPFOOL, defense), before],
                lambda after, none: (_LITTLE - (after - none), points(after - none)),
                strictly=True,
            )
            for defense in DEFENDED
        ]
        checks.append(_extreme_for_most(view, dataset, DEEPFOOL, sign=-1))
    return checks


@claim(
    7,
    "PGD is the easiest attack to undo.",
    "On each dataset most of the seven defenses have their highest robust accuracy against PGD.",
)
def pgd_is_easy(view: View) -> list[Check]:
    """Claim 7."""
    return [_extreme_for_most(view, dataset, PGD, sign=1) for dataset in DATASETS]


@claim(
    15,
    "DeepFool's perturbations are the largest.",
    "On each dataset DeepFool has the largest median L2 distance of the four attacks, over the images that fool the "
    "undefended model.",
)
def deepfool_goes_furthest(view: View) -> list[Check]:
    """Claim 15."""

    def distance(dataset: DatasetSetting, attack: AttackSetting) -> Reading:
        return view.reading(dataset, attack, "none", {}, "median_l2")

    return [
        check(
            view.title(dataset),
            f"DeepFool and {view.attack_title(dataset, attack)}",
            [distance(dataset, DEEPFOOL), distance(dataset, attack)],
            lambda own, other: (own - other, f"L2 {own:.2f} and {other:.2f}"),
            strictly=True,
        )
        for dataset in DATASETS
        for attack in ATTACKS
        if attack is not DEEPFOOL
    ]


@claim(
    16,
    "The undefended models reach 99 % on MNIST and 85 % on CIFAR-10.",
    "Clean accuracy is at least 98 % on MNIST and at least 84 % on CIFAR-10: no more than a point below the paper's.",
)
def baselines(view: View) -> list[Check]:
    """Claim 16."""
    return [
        check(
            view.title(dataset),
            "clean",
            [_clean(view, dataset)],
            lambda accuracy, baseline=dataset.baseline: (accuracy - (baseline - _BELOW), per_cent(accuracy)),
        )
        for dataset in DATASETS
    ]


def _clean(view: View, dataset: DatasetSetting) -> Reading:
    """The undefended model's clean accuracy, which the cells of every attack have."""
    readings = [view.reading(dataset, attack, *setting(dataset, UNDEFENDED), "clean_accuracy") for attack in ATTACKS]
    return next((reading for reading in readings if reading.value is not None), readings[0])


def _extreme_for_most(view: View, dataset: DatasetSetting, attack: AttackSetting, *, sign: int) -> Check:
    """Whether most defenses are highest (sign 1) or lowest (sign -1) against an attack."""
    others = [other for other in ATTACKS if other is not attack]
    word = "highest" if sign > 0 else "lowest"

    def compare(own: float, *rest: float) -> tuple[float, str]:
        nearest = max(rest) if sign > 0 else min(rest)
        return sign * (own - nearest), f"{per_cent(own)}, others from {per_cent(nearest)}"

    single = [
        check(
            view.title(dataset),
            TITLES[defense],
            [robust(view, dataset, one, defense) for one in (attack, *others)],
            compare,
            strictly=True,
        )
        for defense in DEFENDED
    ]
    needed = len(DEFENDED) // 2 + 1
    return at_least(needed, view.title(dataset), f"defenses that are {word} against {attack.title}:", single)


ATTACK_CLAIMS = (undefended_models_fall, deepfool_resists, pgd_is_easy, deepfool_goes_furthest, baselines)
