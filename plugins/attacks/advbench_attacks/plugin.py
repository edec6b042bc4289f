"""The attacks that come with advbench."""

from __future__ import annotations

from collections.abc import Callable

from advbench.api import Attack, hookimpl
from advbench_attacks.apgd import AutoPgd, TargetedAutoPgd
from advbench_attacks.autoattack import AutoAttack
from advbench_attacks.cw import CarliniWagnerL2
from advbench_attacks.ddn import DecoupledDirectionAndNorm
from advbench_attacks.deepfool import DeepFool
from advbench_attacks.fab import TargetedFab
from advbench_attacks.fgsm import FastGradientSign
from advbench_attacks.fmn import FastMinimumNorm
from advbench_attacks.foolbox_attack import FoolboxAttack
from advbench_attacks.noise import RandomNoise
from advbench_attacks.pgd import ProjectedGradientDescent
from advbench_attacks.square import SquareAttack

__all__ = ["register_attacks"]


@hookimpl
def register_attacks(register: Callable[[type[Attack]], None]) -> None:
    """Registers the attacks of this package."""
    for attack in (
        FastGradientSign,
        ProjectedGradientDescent,
        DeepFool,
        CarliniWagnerL2,
        DecoupledDirectionAndNorm,
        FastMinimumNorm,
        AutoPgd,
        TargetedAutoPgd,
        TargetedFab,
        SquareAttack,
        AutoAttack,
        RandomNoise,
        FoolboxAttack,
    ):
        register(attack)
