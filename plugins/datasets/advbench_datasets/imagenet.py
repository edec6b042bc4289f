"""ImageNet's validation set, in a folder of the user's."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch

from advbench.api import DataError, DataSources, LabelledImages, param
from advbench_datasets.class_folders import find_classes
from advbench_datasets.decoded_images import Decoded, decoded_images, list_files
from advbench_datasets.files import tree_state
from advbench_datasets.image_files import INTERPOLATIONS, ReadOptions
from advbench_datasets.imagenet_classes import imagenet_synsets
from advbench_datasets.imagenet_images import ImageNetImages

__all__ = ["ImageNet", "robustbench_places"]

ROBUSTBENCH = "robustbench"
ALL = "all"

_IMAGES = 50_000
_SUBSET_SIZE = 5_000
_SUBSET_DIGEST = "69feb1bb40c5c330752a9ff8b22a48cb8e143b055d07e8935faeb873a8ad2522"
"""SHA-256 of the sorted places of the subset, as little-endian 64-bit integers."""

_REMEDY = (
    "ImageNet must be requested at image-net.org; with ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz in DIR, "
    "torchvision.datasets.ImageNet('DIR', 'val') unpacks it to DIR/val"
)


class _File(NamedTuple):
    """An image file below the root."""

    path: str
    label: int


@dataclasses.dataclass(frozen=True)
class ImageNet(ImageNetImages):
    """ImageNet's validation set: ``imagenet:root=DIR``, with one folder per class, such as DIR/n01440764.

    Labels are 0 to 999 in the order of the class folders' names, and remain so if folders are missing. Sample ids are
    the places of the files, sorted by class, then by name. ``subset=robustbench`` takes the 5,000 images on which
    RobustBench evaluates; it needs all 50,000 files. Images are decoded once and kept.
    """

    name: ClassVar[str] = "imagenet"
    source: ClassVar[str] = (
        "Russakovsky et al. 2015, ImageNet Large Scale Visual Recognition Challenge; the subset is that of RobustBench "
        "(Croce et al. 2021)"
    )

    root: str = param(help="the folder val, or the folder that contains it")
    subset: str = param(ROBUSTBENCH, choices=(ROBUSTBENCH, ALL), help="RobustBench's 5,000 images, or all files")
    resize: int = param(256, min=1, help="pixels of the shorter side to resize to")
    crop: int = param(224, min=1, help="side of the square to crop from the centre, at most resize")
    interpolation: str = param("bilinear", choices=INTERPOLATIONS, help="filter for resizing")

    def ids(self) -> Sequence[int]:
        """Returns the places of the files among all files of the folder."""
        count = len(self._files())
        if self.subset == ALL:
            return range(count)
        if count != _IMAGES:
            raise DataError(
                f"{self.name}: {self._folder()} has {count:,} images, and subset={ROBUSTBENCH} is a selection of all "
                f"{_IMAGES:,}; give subset={ALL}, or complete the folder ({_REMEDY})"
            )
        return robustbench_places()

    def load(self, sources: DataSources) -> LabelledImages:
        """Reads the images; decodes them first if this has not been done.

        Raises:
            DataError: The folder is missing or is not ImageNet's, or a file cannot be read.
        """
        return self._decoded(sources).images

    def digest(self, sources: DataSources) -> str:
        """Returns the SHA-256 of the decoded images."""
        return self._decoded(sources).digest

    def _decoded(self, sources: DataSources) -> Decoded:
        files, ids = self._files(), self.ids()
        chosen = [files[place] for place in ids]
        options = ReadOptions(self.name, "RGB", self.interpolation, resize=(self.resize,), crop=(self.crop,))
        listed = list_files(
            self.name, self._folder(), [file.path for file in chosen], [file.label for file in chosen], ids
        )
        return decoded_images(listed, options, sources)

    def location(self, sources: DataSources) -> str | None:
        """Returns the folder, or None if it is not there."""
        del sources
        folder = self._folder()
        return str(folder) if folder.is_dir() else None

    def how_to_get(self) -> str:
        """Returns where it can be requested, and the call of torchvision that unpacks it."""
        return _REMEDY

    def _folder(self) -> Path:
        root = Path(self.root).expanduser()
        return root / "val" if (root / "val").is_dir() else root

    def _files(self) -> tuple[_File, ...]:
        folder = self._folder()
        try:
            state = tree_state(folder, files=False)
        except OSError as error:
            raise DataError(f"{self.name}: root={self.root}: no such folder; {_REMEDY}") from error
        return _list_files(self.name, folder, state)


@functools.lru_cache(maxsize=2)
def _list_files(name: str, folder: Path, state: str) -> tuple[_File, ...]:
    """Lists the class folders' files, sorted by class, then by name; cached as long as no file is added or removed."""
    del state
    synsets = {synset: number for number, synset in enumerate(imagenet_synsets())}
    entries = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    strange = [entry for entry in entries if entry not in synsets]
    if strange or not entries:
        found = f"the folder {strange[0]!r}" if strange else "no folders"
        raise DataError(f"{name}: {folder} has {found}; expected one per class, such as n01440764. {_REMEDY}")
    listed = find_classes(name, folder, classes=None)
    return tuple(
        _File(file.relative_to(folder).as_posix(), synsets[file.relative_to(folder).parts[0]])
        for _, file in listed.files
    )


@functools.cache
def robustbench_places() -> tuple[int, ...]:
    """Returns the places of RobustBench's 5,000 images among the 50,000 validation images, ascending.

    They are the first 5,000 of the random order in which PyTorch's data loader shuffled the sorted files after
    ``torch.manual_seed(0)``: the loader drew two seeds, then the permutation.

    Raises:
        DataError: This version of torch draws other numbers.
    """
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        torch.empty((), dtype=torch.int64).random_(generator=generator)
    places = torch.randperm(_IMAGES, generator=generator)[:_SUBSET_SIZE].sort().values.numpy()
    if hashlib.sha256(places.astype("<i8").tobytes()).hexdigest() != _SUBSET_DIGEST:
        raise DataError(f"imagenet: torch {torch.__version__} draws other numbers than those of RobustBench's images")
    return tuple(places.tolist())
