"""Reconstruction by a denoising autoencoder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from advbench.api import (
    Defense,
    Trainable,
    TrainingJob,
    param,
    verified_digest,
)
from advbench_defenses.generative.denoiser_network import DenoiserNetwork
from advbench_defenses.generative.denoiser_training import RECIPES, train_denoiser
from advbench_defenses.stored_networks import SHIPPED, SHIPPED_FOLDER, check_weights, load_network

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["Denoiser"]

DATASETS: Mapping[int, str] = {1: "mnist", 3: "cifar10"}
"""The dataset whose weights are used, by the number of channels."""


@dataclass(frozen=True)
class Denoiser(Defense, Trainable):
    """Replaces images by the output of an autoencoder that was trained to remove Gaussian noise.

    The shipped weights are for MNIST and CIFAR-10, by the number of channels of the images. Deterministic.

    Args:
        weights: ``shipped``, or a file made by ``advbench train denoiser``.
    """

    name = "denoiser"
    self_contained = True  # the key contains the digests of weights files
    differentiable = True
    source = (
        "Vincent, Larochelle, Bengio and Manzagol 2008, Extracting and Composing Robust Features with Denoising "
        "Autoencoders; Meng and Chen 2017, MagNet: a Two-Pronged Defense against Adversarial Examples, section 4.2 "
        "(as a reformer)"
    )
    recipes: ClassVar[Mapping[str, str]] = RECIPES
    training_sets: ClassVar[tuple[str, ...]] = tuple(DATASETS.values())

    weights: str = param(
        SHIPPED, help="'shipped', or the path of a .safetensors file made by 'advbench train denoiser'"
    )

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: The weights are neither ``shipped`` nor the path of a .safetensors file.
        """
        super().__post_init__()
        check_weights(self.weights)

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Images of other channels, or that cannot be halved twice."""
        channels, height, width = image_shape
        if self.weights == SHIPPED and channels not in DATASETS:
            return f"{self.name} has weights for images of 1 and 3 channels, not of {channels}"
        if height % 4 or width % 4:
            return f"{self.name} takes images whose sides are multiples of 4, not {height}×{width}"
        return ""

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the denoised images."""
        del rng
        network = self._network(images.shape[1], images.device)
        denoised: torch.Tensor = network(images.contiguous(memory_format=torch.channels_last))
        return denoised.contiguous()

    def weights_digest(self) -> str:
        """Returns the SHA-256 over the digests of the weights files, each checked against its sidecar."""
        channels = tuple(DATASETS) if self.weights == SHIPPED else (0,)
        digests = [verified_digest(self._file(number), self._remedy(number)) for number in channels]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def weights_name(self, dataset: str) -> str:
        """Returns ``denoiser-mnist`` and the like."""
        return f"{self.name}-{dataset}"

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains with the recipe of :mod:`advbench_defenses.generative.denoiser_training`."""
        return train_denoiser(job)

    def _file(self, channels: int) -> Path:
        if self.weights != SHIPPED:
            return Path(self.weights).expanduser()
        return SHIPPED_FOLDER / f"{self.weights_name(DATASETS[channels])}.safetensors"

    def _remedy(self, channels: int) -> str:
        """Returns a hint with the command that makes the weights."""
        file = "FILE.safetensors" if self.weights == SHIPPED else self.weights
        made = f"'advbench train {self.name} --dataset {DATASETS.get(channels, 'NAME')} --output {file}' makes them"
        return made if self.weights != SHIPPED else f"{made}, for use as {self.name}:weights={file}"

    def _network(self, channels: int, device: torch.device) -> DenoiserNetwork:
        return load_network(
            DenoiserNetwork, (channels,), self._file(channels), device,
            owner="a denoiser", remedy=self._remedy(channels),
        )  # fmt: skip
