"""Defense-GAN: images are replaced by the nearest ones that a generator makes."""

from __future__ import annotations

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
from advbench_defenses.generative.defense_gan_training import RECIPES, train_generator
from advbench_defenses.generative.generator import LATENT, Generator
from advbench_defenses.generative.latent_search import nearest_latents
from advbench_defenses.generative.tangent_projection import project_on_tangents
from advbench_defenses.identity_approximation import identity_approximation
from advbench_defenses.stored_networks import SHIPPED, SHIPPED_FOLDER, check_weights, load_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from advbench.api import SampleRandom

__all__ = ["DefenseGan"]

DATASET = "mnist"
IMAGE_SHAPE = (1, 28, 28)


@dataclass(frozen=True)
class DefenseGan(Defense, Trainable):
    """Replaces each image x by the image G(z) of a generator with the smallest ‖G(z) − x‖² that gradient descent finds.

    The descent over z has momentum, and starts from several random z; the best end counts. The generator is trained on
    clean MNIST images. Stochastic.

    Args:
        L: Steps of gradient descent, the paper's L.
        R: Random starts, the paper's R.
        weights: ``shipped``, or a file made by ``advbench train defense-gan``.
    """

    name = "defense-gan"
    self_contained = True  # the key contains the digest of the weights file
    source = (
        "Samangouei, Kabkab and Chellappa 2018, Defense-GAN: Protecting Classifiers Against Adversarial Attacks Using "
        "Generative Models, section 4 (L = 200, R = 10)"
    )
    recipes: ClassVar[Mapping[str, str]] = RECIPES
    training_sets: ClassVar[tuple[str, ...]] = (DATASET,)

    L: int = param(200, min=1, help="steps of gradient descent from each start")
    R: int = param(10, min=1, help="random starts for each image; the nearest result counts")
    weights: str = param(
        SHIPPED, help="'shipped', or the path of a .safetensors file made by 'advbench train defense-gan'"
    )

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: The weights are neither ``shipped`` nor the path of a .safetensors file.
        """
        super().__post_init__()
        check_weights(self.weights)

    @property
    def stochastic(self) -> bool:
        """True: the starts are random."""
        return True

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Images of another shape than MNIST's."""
        if image_shape == IMAGE_SHAPE:
            return ""
        return f"{self.name} has a generator for images of {IMAGE_SHAPE}, not of {image_shape}"

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the nearest images that were found."""
        generator = self._generator(images.device)
        latents = self._latents(generator, images, rng)
        with torch.no_grad():
            return generator(latents)  # type: ignore[no-any-return]

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns the projections on the tangent spaces of the generator's images, see :func:`project_on_tangents`."""
        generator = self._generator(images.device)
        return project_on_tangents(generator, self._latents(generator, images, rng), images)

    def approximations(self) -> tuple[Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor], ...]:
        """Returns the identity, and the projection on tangent spaces."""
        return (identity_approximation, self.approximation_from_output)

    def weights_digest(self) -> str:
        """Returns the SHA-256 of the weights file, checked against its sidecar."""
        return verified_digest(self._file(), self._remedy())

    def weights_name(self, dataset: str) -> str:
        """Returns ``defense-gan-mnist``."""
        return f"{self.name}-{dataset}"

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains with the recipe of :mod:`advbench_defenses.generative.defense_gan_training`."""
        return train_generator(job)

    def _latents(self, generator: Generator, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        starts = rng.normal(self.R, LATENT).to(images.device)
        return nearest_latents(generator, images, starts, self.L)

    def _file(self) -> Path:
        if self.weights != SHIPPED:
            return Path(self.weights).expanduser()
        return SHIPPED_FOLDER / f"{self.weights_name(DATASET)}.safetensors"

    def _remedy(self) -> str:
        """Returns a hint with the command that makes the weights."""
        file = "FILE.safetensors" if self.weights == SHIPPED else self.weights
        made = f"'advbench train {self.name} --output {file}' makes them"
        return made if self.weights != SHIPPED else f"{made}, for use as {self.name}:weights={file}"

    def _generator(self, device: torch.device) -> Generator:
        return load_network(
            Generator, (), self._file(), device,
            owner="Defense-GAN", remedy=self._remedy(), memory_format=torch.preserve_format,
        )  # fmt: skip
