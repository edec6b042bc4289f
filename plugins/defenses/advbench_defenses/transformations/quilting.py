"""Image quilting: puts images together from patches of clean images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from advbench.api import Defense, ParameterError, Trainable, TrainingJob, param, verified_digest
from advbench_defenses.identity_approximation import identity_approximation
from advbench_defenses.stored_networks import SHIPPED, SHIPPED_FOLDER, check_weights
from advbench_defenses.transformations.patch_database import DATASETS, RECIPES, load_patches, make_database, read_layout
from advbench_defenses.transformations.seams import grid, join_patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from advbench.api import SampleRandom

__all__ = ["ImageQuilting"]


_TEMPERATURE = 0.01
"""Temperature of the soft choice between the nearest patches, in mean squared differences of pixels."""


@dataclass(frozen=True)
class ImageQuilting(Defense, Trainable):
    """Replaces overlapping patches of the image by similar patches of training images.

    The patches lie on a grid. Each is replaced by one of its ``nearest`` neighbours in a database, chosen at random.
    Neighbouring patches are joined along the seam of their overlap with the smallest squared difference. The shipped
    databases have patches of 5×5 pixels: 20,000 of MNIST and 30,000 of CIFAR-10, by the number of channels of the
    image. The paper has 1,000,000 of ImageNet.

    Args:
        nearest: Number of nearest neighbours to choose from; 1 for the nearest one, which is deterministic.
        patch: Side of a patch in pixels.
        overlap: Overlap of neighbouring patches in pixels.
        weights: ``shipped``, or a database made by ``advbench train quilting``.
    """

    name = "quilting"
    self_contained = True  # the key contains the digests of databases
    source = (
        "Guo, Rana, Cisse and van der Maaten 2018, Countering Adversarial Images using Input Transformations, section "
        "4.3; Efros and Freeman 2001, Image Quilting for Texture Synthesis and Transfer"
    )
    recipes: ClassVar[Mapping[str, str]] = RECIPES
    training_sets: ClassVar[tuple[str, ...]] = tuple(DATASETS.values())

    nearest: int = param(10, min=1, max=1000, help="nearest patches to choose from at random")
    patch: int = param(5, min=2, max=64, help="side of a patch in pixels")
    overlap: int = param(2, min=1, max=63, help="overlap of neighbouring patches in pixels")
    weights: str = param(
        SHIPPED, help="'shipped', or the path of a .safetensors file made by 'advbench train quilting'"
    )

    def __post_init__(self) -> None:
        """Validates the parameters.

        Raises:
            ParameterError: A value is not allowed.
        """
        super().__post_init__()
        if self.overlap >= self.patch:
            raise ParameterError(f"overlap={self.overlap}: must be below patch={self.patch}")
        check_weights(self.weights)

    @property
    def stochastic(self) -> bool:
        """Whether patches are chosen at random."""
        return self.nearest > 1

    def incompatibility(self, image_shape: tuple[int, int, int]) -> str:
        """Images of other channels than the database, or smaller than a patch."""
        channels, height, width = image_shape
        if self.weights == SHIPPED and channels not in DATASETS:
            return f"{self.name} has patches of 1 and 3 channels, not of {channels}"
        given = read_layout(self._file(channels))
        if given is not None and given != (channels, self.patch):
            there, side = given
            return (
                f"{self.name}: {self._file(channels)} has patches of {there} channels and {side}×{side} pixels, not of "
                f"{channels} and {self.patch}×{self.patch}; it is for patch={side} and images of {there} channels"
            )
        if min(height, width) < self.patch:
            return f"{self.name}: patches of {self.patch} pixels do not fit into images of {height}×{width}"
        return ""

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns images that consist of patches of the database."""
        _, channels, height, width = images.shape
        database = self._database(channels, images.device)
        tops, lefts = (grid(length, self.patch, self.overlap) for length in (height, width))
        chosen = (rng.uniform(len(tops) * len(lefts)) * self._choices(database)).long().to(images.device)
        found = torch.stack(
            [
                self._neighbours(self._patches(image[None], tops, lefts)[0], database).gather(1, place[:, None])[:, 0]
                for image, place in zip(images.detach(), chosen, strict=True)  # alone, so that no rounding differs
            ]
        )
        patches = database[found].reshape(len(images), len(tops), len(lefts), channels, self.patch, self.patch)
        return join_patches(patches, tops, lefts)

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns soft choices between the nearest patches: softmax(−d² / T), averaged where patches overlap.

        With a single nearest patch there is no choice, and the images are returned.
        """
        del rng
        if self.nearest == 1:
            return images
        channels, height, width = images.shape[1:]
        database = self._database(channels, images.device)
        tops, lefts = (grid(length, self.patch, self.overlap) for length in (height, width))
        own = self._patches(images, tops, lefts)
        found = torch.stack([self._neighbours(patches, database) for patches in own.detach()])
        candidates = database.flatten(1)[found]  # (batch, places, choices, values)
        distances = (candidates - own[:, :, None]).square().mean(dim=3)
        soft = ((-distances / _TEMPERATURE).softmax(dim=2)[..., None] * candidates).sum(dim=2)
        soft = soft.reshape(len(images), len(tops), len(lefts), channels, self.patch, self.patch)
        total, count = torch.zeros_like(images), torch.zeros_like(images[:1, :1])
        for row, top in enumerate(tops):
            for column, left in enumerate(lefts):
                edges = (left, width - left - self.patch, top, height - top - self.patch)
                total = total + torch.nn.functional.pad(soft[:, row, column], edges)
                count[:, :, top : top + self.patch, left : left + self.patch] += 1
        return total / count

    def approximations(self) -> tuple[Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor], ...]:
        """Returns the identity and, if there is a choice, the soft choice."""
        soft = (self.approximation_from_output,) if self.nearest > 1 else ()
        return (identity_approximation, *soft)

    def weights_digest(self) -> str:
        """Returns the SHA-256 of the database; of all shipped ones, since the images decide which is used."""
        digests = [verified_digest(self._file(channels), self._remedy(channels)) for channels in self._channels()]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def weights_name(self, dataset: str) -> str:
        """Returns ``quilting-mnist`` and the like; with the size of the patches if it is not 5."""
        return f"{self.name}-{dataset}" + ("" if self.patch == 5 else f"-{self.patch}")

    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Collects a database of patches."""
        return make_database(job, self.patch)

    def _channels(self) -> tuple[int, ...]:
        """One number of channels for each file."""
        return tuple(DATASETS) if self.weights == SHIPPED else (0,)

    def _file(self, channels: int) -> Path:
        if self.weights != SHIPPED:
            return Path(self.weights).expanduser()
        return SHIPPED_FOLDER / f"{self.weights_name(DATASETS[channels])}.safetensors"

    def _remedy(self, channels: int) -> str:
        """Returns a hint with the command that makes the database."""
        spec = self.name if self.patch == 5 else f"{self.name}:patch={self.patch}"
        file = "FILE.safetensors" if self.weights == SHIPPED else self.weights
        made = f"'advbench train {spec} --dataset {DATASETS.get(channels, 'NAME')} --output {file}' makes it"
        parameter = "," if ":" in spec else ":"
        return made if self.weights != SHIPPED else f"{made}, for use as {spec}{parameter}weights={file}"

    def _database(self, channels: int, device: torch.device) -> torch.Tensor:
        path, remedy = self._file(channels), self._remedy(channels)
        state = path.stat() if path.is_file() else None
        version = (0, 0) if state is None else (state.st_mtime_ns, state.st_size)
        return load_patches(path, version, (channels, self.patch), device, remedy)

    def _choices(self, database: torch.Tensor) -> int:
        return min(self.nearest, len(database))

    def _patches(self, images: torch.Tensor, tops: list[int], lefts: list[int]) -> torch.Tensor:
        """The images' patches on the grid, shape (batch, places, values)."""
        squares = images.unfold(2, self.patch, 1).unfold(3, self.patch, 1)
        return squares[:, :, tops][:, :, :, lefts].permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)

    def _neighbours(self, patches: torch.Tensor, database: torch.Tensor) -> torch.Tensor:
        """The nearest patches of the database for each patch, nearest first; int64, shape (places, choices)."""
        candidates = database.flatten(1)
        distances = candidates.square().sum(dim=1) - 2 * patches @ candidates.T
        return distances.topk(self._choices(database), dim=1, largest=False).indices
