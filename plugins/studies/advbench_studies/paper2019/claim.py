"""The type of a claim, and what the functions that judge claims share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from advbench_studies.paper2019.evidence import View
from advbench_studies.paper2019.setting import ATTACKS, DATASETS, DEFENSES, AttackSetting, DatasetSetting
from advbench_studies.paper2019.verdict import Check, Reading

__all__ = [
    "ALL_BUT_DEEPFOOL",
    "CIFAR10",
    "DEEPFOOL",
    "DEFENDED",
    "MNIST",
    "MOST",
    "NO_VARIANTS",
    "PGD",
    "TITLES",
    "UNDEFENDED",
    "Claim",
    "claim",
    "robust",
    "setting",
]

MNIST, CIFAR10 = DATASETS
FGSM, PGD, CW, DEEPFOOL = ATTACKS
ALL_BUT_DEEPFOOL = (FGSM, PGD, CW)
UNDEFENDED = DEFENSES[0].key
DEFENDED = tuple(defense.key for defense in DEFENSES[1:])
TITLES = {defense.key: defense.title for defense in DEFENSES}
MOST = 3
"""How many of the four attacks are most of them."""
NO_VARIANTS = "Adaptive attacks, which take much longer, run on the paper's eight columns alone."
"""Why adaptive attacks do not judge claims about further settings of the defenses."""


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the paper, with the criterion that decides it.

    Attributes:
        number: Its position in the list.
        text: The claim.
        criterion: When it holds, in words.
        judge: Returns its checks under one protocol.
        compares_datasets: Whether it is about the difference between the datasets, so that none of them is enough.
        not_adaptive: Why adaptive attacks give no verdict on it, in a sentence; empty if they do.
    """

    number: int
    text: str
    criterion: str
    judge: Callable[[View], list[Check]]
    compares_datasets: bool = False
    not_adaptive: str = ""


def claim(
    number: int, text: str, criterion: str, *, compares_datasets: bool = False, not_adaptive: str = ""
) -> Callable[[Callable[[View], list[Check]]], Claim]:
    """Decorates the function that judges a claim, and makes it a claim."""
    return lambda judge: Claim(number, text, criterion, judge, compares_datasets, not_adaptive)


def robust(view: View, dataset: DatasetSetting, attack: AttackSetting, defense: str) -> Reading:
    """Robust accuracy of one of the paper's defenses, by its key."""
    component, wanted = setting(dataset, defense)
    return view.reading(dataset, attack, component, wanted)


def setting(dataset: DatasetSetting, defense: str) -> tuple[str, dict[str, float]]:
    """A defense's name and parameters in the paper, by its key."""
    of_paper = next(one for one in DEFENSES if one.key == defense)
    return of_paper.component, of_paper.parameters(dataset)
