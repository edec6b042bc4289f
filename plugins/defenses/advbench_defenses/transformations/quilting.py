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


_MOST_KEPT = 10_000_000
"""Neighbours and images of more values are not kept for the next draw."""

_SOFT_CHOICES = 100
"""Number of nearest patches that the soft choice is between. The few that the defense chooses from are nearly alike, so
that a choice between them hardly follows the image; on both datasets, attacks that followed it left more."""

_TEMPERATURE = 0.02
"""Temperature of the soft choice, in mean squared differences of pixels."""


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
        neighbours = self._neighbours(images.detach(), tops, lefts, database, self._choices(database))
        found = neighbours.gather(2, chosen[:, :, None])[:, :, 0]
        patches = database[found].reshape(len(images), len(tops), len(lefts), channels, self.patch, self.patch)
        return join_patches(patches, tops, lefts)

    def approximation(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Returns soft choices between the 100 nearest patches: softmax(−d² / T), averaged where patches overlap."""
        del rng
        channels, height, width = images.shape[1:]
        database = self._database(channels, images.device)
        tops, lefts = (grid(length, self.patch, self.overlap) for length in (height, width))
        own, flat = self._patches(images, tops, lefts), database.flatten(1)
        found = self._neighbours(images.detach(), tops, lefts, database, min(_SOFT_CHOICES, len(database)))
        candidates = flat[found]  # (batch, places, choices, values)
        # Distances without the patch's own square, which is the same for all choices.
        products = (candidates @ own[..., None])[..., 0]
        distances = flat.square().mean(dim=1)[found] - 2 / flat.shape[1] * products
        soft = ((-distances / _TEMPERATURE).softmax(dim=2)[:, :, None] @ candidates)[:, :, 0]
        soft = soft.reshape(len(images), len(tops), len(lefts), channels, self.patch, self.patch)
        total, count = torch.zeros_like(images), torch.zeros_like(images[:1, :1])
        for row, top in enumerate(tops):
            for column, left in enumerate(lefts):
                edges = (left, width - left - self.patch, top, height - top - self.patch)
                total = total + torch.nn.functional.pad(soft[:, row, column], edges)
                count[:, :, top : top + self.patch, left : left + self.patch] += 1
        return total / count

    def approximations(self) -> tuple[Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor], ...]:
        """Returns the identity and the soft choice."""
        return (identity_approximation, self.approximation_from_output)

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

    def _neighbours(
        self, images: torch.Tensor, tops: list[int], lefts: list[int], database: torch.Tensor, count: int
    ) -> torch.Tensor:
        """The nearest patches of the database for each patch, nearest first; int64, shape (batch, places, count)."""
        known = _last.of((self, count), images, database)
        if known is not None:
            return known
        with torch.inference_mode(mode=False):  # indices of inference mode could not be used again with gradients
            candidates = database.flatten(1)
            sizes = candidates.square().sum(dim=1)
            found = torch.stack(
                [
                    (sizes - 2 * patches @ candidates.T).topk(count, dim=1, largest=False).indices
                    for patches in self._patches(images, tops, lefts)  # alone, so that no rounding differs
                ]
            )
            _last.keep((self, count), images.clone(), database, found)
        return found


class _LastNeighbours:
    """The neighbours that were found last: the draws of an attack or a score ask for the same images in turn.

    What is asked for is a defense and a number of neighbours. An attack asks for two in turn: those that the defense
    chooses from, and those of the soft choice.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[ImageQuilting, int], tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def of(self, what: tuple[ImageQuilting, int], images: torch.Tensor, database: torch.Tensor) -> torch.Tensor | None:
        """What was found for these images; None for others."""
        if what not in self._kept:
            return None
        asked, searched, found = self._kept[what]
        same = searched is database and asked.shape == images.shape and asked.device == images.device
        return found if same and torch.equal(asked, images) else None

    def keep(
        self, what: tuple[ImageQuilting, int], images: torch.Tensor, database: torch.Tensor, found: torch.Tensor
    ) -> None:
        """Keeps what was found instead of what was kept before, for two of them; nothing if it is large."""
        others = [(other, kept) for other, kept in self._kept.items() if other != what]
        last = dict(others[-1:])
        small = found.numel() + images.numel() <= _MOST_KEPT
        self._kept = {**last, what: (images, database, found)} if small else last


_last = _LastNeighbours()
