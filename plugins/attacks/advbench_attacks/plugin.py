"""Registers the attacks that are part of advbench."""

from __future__ import annotations

from collections.abc import Callable

from advbench.api import Attack, hookimpl
from advbench_attacks.black_box.noise import RandomNoise
from advbench_attacks.black_box.rays import RayS
from advbench_attacks.black_box.square import SquareAttack
from advbench_attacks.combined.with_view import WithView
from advbench_attacks.combined.worst_of import WorstOf
from advbench_attacks.corruptions.blur import DefocusBlur, GaussianBlur, GlassBlur, MotionBlur, ZoomBlur
from advbench_attacks.corruptions.digital import Contrast, ElasticTransform, JpegArtefacts, Pixelate, Saturate
from advbench_attacks.corruptions.noise import GaussianNoise, ImpulseNoise, ShotNoise, SpeckleNoise
from advbench_attacks.corruptions.weather import Brightness, Fog
from advbench_attacks.foolbox.attack import FoolboxAttack
from advbench_attacks.geometric.rotate_shift import RotateShift
from advbench_attacks.gradient.apgd import AutoPgd, TargetedAutoPgd
from advbench_attacks.gradient.autoattack import AutoAttack
from advbench_attacks.gradient.fgsm import FastGradientSign
from advbench_attacks.gradient.pgd import ProjectedGradientDescent
from advbench_attacks.minimal.cw import CarliniWagnerL2
from advbench_attacks.minimal.ddn import DecoupledDirectionAndNorm
from advbench_attacks.minimal.deepfool import DeepFool
from advbench_attacks.minimal.fab import TargetedFab
from advbench_attacks.minimal.fmn import FastMinimumNorm
from advbench_attacks.patch.adversarial_patch import AdversarialPatch
from advbench_attacks.patch.graffiti import Graffiti

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
        RayS,
        AutoAttack,
        WorstOf,
        WithView,
        RandomNoise,
        RotateShift,
        AdversarialPatch,
        Graffiti,
        GaussianNoise,
        ShotNoise,
        ImpulseNoise,
        SpeckleNoise,
        GaussianBlur,
        GlassBlur,
        DefocusBlur,
        MotionBlur,
        ZoomBlur,
        Brightness,
        Fog,
        Contrast,
        Saturate,
        JpegArtefacts,
        Pixelate,
        ElasticTransform,
        FoolboxAttack,
    ):
        register(attack)
