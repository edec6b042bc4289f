"""Reconstruction by a vector-quantised autoencoder (VQ-VAE)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from advbench.api import (
    Defense,
    ParameterError,
    Trainable,
    TrainingJob,
    WeightsError,
    param,
    verified_digest,
)
from advbench_defenses.stored_networks import SHIPPED, SHIPPED_FOLDER, check_weights, load_network
from advbench_defenses.vqvae_network import VqVaeNetwork
from advbench_defenses.vqvae_training import GAUSSIAN, HIDDEN, NOISES, RECIPES, WORDS, Variant, train_vqvae

if TYPE_CHECKING:
    from advbench.api import SampleRandom

__all__ = ["VqVae"]

DATASETS: Mapping[tuple[int, int, int], str] = {(1, 28, 28): "mnist", (3, 32, 32): "cifar10"}
"""The dataset that a shape of images stands for."""

BATCH_SIZE = 32
"""Images per batch, so that activations fit into a processor's cache."""

TEMPERATURE = 0.05
"""The temperature of the soft assignment that gives the gradient at the quantisation, in squared distances."""


@dataclass(frozen=True)
class VqVae(Defense, Trainable):
    """Reconstructs images by an autoencoder whose latent vectors are replaced by entries of a codebook (VQ-VAE).

    The shipped weights are for MNIST and CIFAR-10; the images' shape decides which are used. They were trained with
    Gaussian noise of standard deviation 0, 0.25, 0.75 or 1.5 on the training images. No noise is added to the images
    that the defense reconstructs. Deterministic.

    Args:
        noise: Strength of the noise during training: the standard deviation if Gaussian, the half-width if uniform,
            both for inputs scaled to [-1, 1]; the share of changed values if salt-and-pepper.
        noise_kind: The noise's distribution.
        hidden: Channels of every layer, and the length of a code word.
        words: Size of the codebook.
        weights: ``shipped``, or a file made by ``advbench train vqvae``.
    """

    name = "vqvae"
    self_contained = True  # the key contains the digests of weights files
    differentiable = True  # the quantisation has the gradient of a soft assignment
    source = "van den Oord, Vinyals and Kavukcuoglu 2017, Neural Discrete Representation Learning"
    recipes: ClassVar[Mapping[str, str]] = RECIPES
    training_sets: ClassVar[tuple[str, ...]] = tuple(DATASETS.values())

    noise: float = param(0.0, min=0, help="strength of the noise on the training images")
    noise_kind: str = param(GAUSSIAN, choices=NOISES, help="distribution of that noise")
    hidden: int = param(HIDDEN, min=1, help="channels of every layer, and length of a code word")
    words: int = param(WORDS, min=2, help="size of the codebook")
    weights: str = param(SHIPPED, help="'shipped', or the path of a .safetensors file made by 'advbench train vqvae'")

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: A value is not allowed.
        """
        super().__post_init__()
        check_weights(self.weights)
        if self.noise_kind == "salt-and-pepper" and self.noise > 1:
            raise ParameterError(f"noise={self.noise:g}: with noise_kind={self.noise_kind} it is a share, at most 1")

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Returns why there are no weights for images of this shape, or an empty string."""
        if image_shape in self._files():
            return ""
        shapes = " and ".join(str(shape) for shape in self._files()) or "no images at all"
        return f"{self.name} has weights for images of {shapes}, not of {image_shape}"

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Reconstructs images of shape (batch, channels, height, width); returns float32 in [0, 1]."""
        del rng
        network = self._network((images.shape[1], images.shape[2], images.shape[3]), images.device)
        # Channels-last is faster; converting always makes the result independent of the images' memory format.
        batches = torch.split(images.contiguous(memory_format=torch.channels_last), BATCH_SIZE)
        reconstructions = [network.reconstruct(batch, TEMPERATURE)[0] for batch in batches]
        return torch.cat(reconstructions).contiguous() if reconstructions else images.clone()

    def weights_digest(self) -> str:
        """Returns the SHA-256 over the digests of the weights files, each checked against its sidecar."""
        self._check_variant()
        if self.weights == SHIPPED and not any(path.is_file() for path in self._files().values()):
            raise WeightsError(
                f"no weights for {', '.join(self._arguments())} come with advbench; {self._remedy(None)}"
            )
        digests = [verified_digest(path, self._remedy(shape)) for shape, path in self._files().items()]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def weights_name(self, dataset: str) -> str:
        """Returns ``vqvae-mnist-0.25`` and the like; names what differs from the study's network and noise, too."""
        kind = "" if self.noise_kind == GAUSSIAN else f"{self.noise_kind}-"
        size = "" if (self.hidden, self.words) == (HIDDEN, WORDS) else f"-hidden{self.hidden}-words{self.words}"
        return f"{self.name}-{dataset}-{kind}{self.noise:g}{size}"

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains with a recipe of :mod:`advbench_defenses.vqvae_training`."""
        return train_vqvae(job, Variant(self.noise, self.noise_kind, self.hidden, self.words))

    def _files(self) -> dict[tuple[int, int, int], Path]:
        """Returns the weights file for each shape of images."""
        if self.weights != SHIPPED:
            path = Path(self.weights).expanduser()
            shape = self._sidecar(path).get("image_shape", ())
            return {tuple(shape): path} if len(shape) == 3 else {}
        paths = {shape: SHIPPED_FOLDER / f"{self.weights_name(name)}.safetensors" for shape, name in DATASETS.items()}
        existing = {shape: path for shape, path in paths.items() if path.is_file()}
        return existing or paths

    def _check_variant(self) -> None:
        """Checks that the weights were trained with the values in the parameters, which the leaderboard will show."""
        if self.weights == SHIPPED:
            return
        sidecar_entries = self._sidecar(Path(self.weights).expanduser())
        differing = {
            key: sidecar_entries[key]
            for key in ("noise", "noise_kind", "hidden", "words")
            if sidecar_entries.get(key, getattr(self, key)) != getattr(self, key)
        }
        if differing:
            trained = ",".join(f"{key}={value}" for key, value in differing.items())
            given = ",".join(f"{key}={getattr(self, key)}" for key in differing)
            raise ParameterError(
                f"weights {self.weights} were trained with {trained}, not {given}: "
                f"give {self.name}:{trained},weights={self.weights}"
            )

    def _sidecar(self, path: Path) -> Mapping[str, Any]:
        """Reads the sidecar of a weights file."""
        remedy = self._remedy(None)
        if not path.is_file():
            raise WeightsError(f"weights {path} are missing; {remedy}")
        sidecar = path.with_suffix(".json")
        try:
            sidecar_entries = json.loads(sidecar.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise WeightsError(f"{sidecar}, which says what the weights are for, cannot be read; {remedy}") from error
        return sidecar_entries if isinstance(sidecar_entries, dict) else {}

    def _network(self, shape: tuple[int, int, int], device: torch.device) -> VqVaeNetwork:
        path = self._files().get(shape)
        if path is None:
            raise WeightsError(self.incompatibility(shape))
        layout = (shape[0], self.hidden, self.words)
        return load_network(VqVaeNetwork, layout, path, device, owner="a VQ-VAE", remedy=self._remedy(shape))

    def _remedy(self, shape: tuple[int, int, int] | None) -> str:
        """Returns a hint with the command that makes the weights."""
        dataset = "NAME" if shape is None else DATASETS.get(shape, "NAME")
        spec = f"{self.name}:{','.join(self._arguments())}"
        if self.weights != SHIPPED:
            return f"'advbench train {spec} --dataset {dataset} --output {self.weights}' makes them"
        return (
            f"'advbench train {spec} --dataset {dataset} --output FILE.safetensors' makes them, "
            f"for use as {spec},weights=FILE.safetensors"
        )

    def _arguments(self) -> list[str]:
        """Returns the noise, and each other value that differs from the study's, as in a spec."""
        standard = {"noise_kind": GAUSSIAN, "hidden": HIDDEN, "words": WORDS}
        changed = [f"{key}={getattr(self, key)}" for key, value in standard.items() if getattr(self, key) != value]
        return [f"noise={self.noise:g}", *changed]
