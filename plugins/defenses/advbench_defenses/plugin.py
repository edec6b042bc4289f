"""Registers the defenses that are part of advbench."""

from __future__ import annotations

from collections.abc import Callable

from advbench.api import Defense, hookimpl
from advbench_defenses.ensemble import Ensemble
from advbench_defenses.feature_squeezing import FeatureSqueezing
from advbench_defenses.gaussian import GaussianBlur
from advbench_defenses.generative.defense_gan import DefenseGan
from advbench_defenses.generative.denoiser import Denoiser
from advbench_defenses.jpeg import JpegCompression
from advbench_defenses.kmeans import KMeansQuantisation
from advbench_defenses.none import NoDefense
from advbench_defenses.smoothing import RandomizedSmoothing
from advbench_defenses.transformations.bilateral import BilateralFilter
from advbench_defenses.transformations.bit_depth import BitDepth
from advbench_defenses.transformations.crop_ensemble import CropEnsemble
from advbench_defenses.transformations.gaussian_noise import GaussianNoise
from advbench_defenses.transformations.median import MedianSmoothing
from advbench_defenses.transformations.non_local_means import NonLocalMeans
from advbench_defenses.transformations.quilting import ImageQuilting
from advbench_defenses.transformations.resize_pad import ResizeAndPad
from advbench_defenses.transformations.shield import Shield
from advbench_defenses.transformations.wavelet import WaveletDenoising
from advbench_defenses.tvm import TotalVariationMinimisation
from advbench_defenses.vqvae import VqVae

__all__ = ["register_defenses"]


@hookimpl
def register_defenses(register: Callable[[type[Defense]], None]) -> None:
    """Registers the defenses of this package."""
    register(NoDefense)
    register(JpegCompression)
    register(GaussianBlur)
    register(KMeansQuantisation)
    register(TotalVariationMinimisation)
    register(VqVae)
    register(RandomizedSmoothing)
    register(GaussianNoise)
    register(FeatureSqueezing)
    register(Ensemble)
    register(Denoiser)
    register(DefenseGan)
    register(BitDepth)
    register(MedianSmoothing)
    register(NonLocalMeans)
    register(BilateralFilter)
    register(WaveletDenoising)
    register(ResizeAndPad)
    register(CropEnsemble)
    register(Shield)
    register(ImageQuilting)
