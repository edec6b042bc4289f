"""torchvision's datasets of labelled images."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from advbench.api import DataError, LabelledImages, ParameterError, closest, param
from advbench_datasets.files import Array, tree_state
from advbench_datasets.image_files import INTERPOLATIONS, MODES, ReadOptions
from advbench_datasets.own_images import Contents, OwnImages

__all__ = ["TorchvisionDataset"]

_WITH_SPLIT = (
    "SVHN", "STL10", "DTD", "FGVCAircraft", "Flowers102", "Food101", "GTSRB", "OxfordIIITPet", "PCAM", "RenderedSST2",
    "StanfordCars", "Country211", "Imagenette", "FER2013", "Places365", "LFWPeople",
)  # fmt: skip
"""Classes with an argument ``split``."""

_WITH_TRAIN = ("KMNIST", "QMNIST", "USPS")
"""Classes with an argument ``train``."""

_WITH_BOTH = ("EMNIST",)
_WITHOUT = ("EuroSAT", "SUN397", "Caltech101", "Caltech256", "SEMEION")
"""Classes with one part."""

_NOT_DOWNLOADED = ("FER2013", "LFWPeople", "StanfordCars")
"""Classes that do not download their dataset, or no longer do."""

_UNLABELLED = {"STL10": ("unlabeled", "train+unlabeled")}
"""Parts with images that have no label."""

_NAMES = tuple(sorted(_WITH_SPLIT + _WITH_TRAIN + _WITH_BOTH + _WITHOUT, key=str.lower))

_OWN = {
    "MNIST": "mnist", "FashionMNIST": "fashion-mnist", "CIFAR10": "cifar10", "CIFAR100": "cifar100",
    "CelebA": "celeba", "ImageNet": "imagenet:root=DIR", "ImageFolder": "image-folder:path=DIR",
}  # fmt: skip
"""Classes that have a dataset of their own here."""


@dataclasses.dataclass(frozen=True)
class TorchvisionDataset(OwnImages):
    """Another dataset of torchvision: ``torchvision-dataset:dataset=SVHN,root=DIR``.

    DIR is the folder in which torchvision keeps the dataset. Sample ids are the places in torchvision's order. Images
    of different sizes need ``size``, which scales the shorter side and crops the centre square.
    """

    name: ClassVar[str] = "torchvision-dataset"
    source: ClassVar[str] = "torchvision.datasets, whose documentation names each dataset's paper"
    depends_on: ClassVar[tuple[str, ...]] = ("torchvision", "pillow")

    dataset: str = param(help="class in torchvision.datasets, such as SVHN")
    root: str = param(help="folder in which torchvision keeps the dataset")
    split: str = param(
        "test",
        help="torchvision's name of the part, such as train, test or val; for EMNIST with its split, as letters/test",
    )
    size: int | None = param(
        None, min=1, help="pixels: resize the shorter side to it and crop the centre square; none: unchanged"
    )
    mode: str = param("rgb", choices=tuple(MODES), help="colour mode")
    interpolation: str = param("bicubic", choices=INTERPOLATIONS, help="filter for resizing")

    def __post_init__(self) -> None:
        """Validates that the dataset is one of labelled images.

        Raises:
            ParameterError: It is not, or the split is not one of its.
        """
        super().__post_init__()
        if self.dataset in _OWN:
            raise ParameterError(f"dataset={self.dataset}: advbench has it as {_OWN[self.dataset]}")
        if self.dataset not in _NAMES:
            hint = closest(self.dataset, list(_NAMES)) or f"there are: {', '.join(_NAMES)}"
            raise ParameterError(f"dataset={self.dataset}: torchvision has no such dataset of labelled images; {hint}")
        _arguments(self.dataset, self.split)

    def read(self) -> Contents:
        """Reads every image.

        Raises:
            DataError: The folder does not have the dataset, or images have different sizes.
        """
        root = Path(self.root).expanduser()
        options = ReadOptions(self.name, MODES[self.mode], self.interpolation, square=self.size)
        try:
            state = tree_state(root)
        except OSError as error:
            raise DataError(f"{self.name}: root={self.root}: no such folder; {self._remedy()}") from error
        try:
            return _read(self.dataset, self.split, root, state, options)
        except DataError:
            raise
        except Exception as error:  # for files that are missing or damaged, torchvision raises errors of any kind
            reason = " ".join(str(error).split()) or type(error).__name__
            remedy = "give split=…" if _is_about_split(error) else self._remedy()
            raise DataError(f"{self.name}: {self.dataset} in {self.root}: {reason}; {remedy}") from error

    def _remedy(self) -> str:
        if self.dataset in _NOT_DOWNLOADED:
            return f"see torchvision's documentation of {self.dataset} for how to get it"
        arguments = "".join(f", {name}={value!r}" for name, value in _arguments(self.dataset, self.split).items())
        return f"torchvision.datasets.{self.dataset}({self.root!r}{arguments}, download=True) downloads it"


def _arguments(dataset: str, split: str) -> dict[str, object]:
    """Returns the arguments that select the part of a dataset.

    Raises:
        ParameterError: The class has no such part.
    """
    if dataset in _WITHOUT:
        return {}
    if split in _UNLABELLED.get(dataset, ()):
        raise ParameterError(f"split={split}: {dataset} has no labels for all of its images; give train or test")
    if dataset in _WITH_SPLIT:
        return {"split": split}
    first, _, last = split.rpartition("/")
    if last not in ("train", "test") or bool(first) != (dataset in _WITH_BOTH):
        expected = "a split such as letters/test" if dataset in _WITH_BOTH else "train or test"
        raise ParameterError(f"split={split}: {dataset} needs {expected}")
    return {"train": last == "train", **({"split": first} if first else {})}


def _is_about_split(error: Exception) -> bool:
    """Whether torchvision has rejected the value of its argument ``split``."""
    return isinstance(error, ValueError) and "argument split" in str(error)


@functools.lru_cache(maxsize=2)
def _read(dataset: str, split: str, root: Path, state: str, options: ReadOptions) -> Contents:
    """Reads the images of a part; cached as long as the files in the folder are unchanged."""
    del state
    from torchvision import datasets

    kind = getattr(datasets, dataset)
    # Some classes would download without being asked.
    asked = {"download": False} if dataset == "SEMEION" else {}
    samples: Any = kind(str(root), **_arguments(dataset, split), **asked)
    images: Array = np.empty(0, np.uint8)
    labels = []
    for index in range(len(samples)):
        image, label = samples[index]
        pixels = options.pixels_of(image, f"{dataset}[{index}]")
        if index == 0:
            images = np.empty((len(samples), *pixels.shape), np.uint8)
        if pixels.shape != images.shape[1:]:
            raise DataError(
                f"{options.name}: {dataset}[{index}] has {pixels.shape[2]} x {pixels.shape[1]} pixels, the images "
                f"before it {images.shape[3]} x {images.shape[2]}; give size=N to bring all to one size"
            )
        images[index] = pixels
        labels.append(int(label))
    names = _class_names(samples)
    classes = max(max(labels, default=0) + 1, len(names or ()), 2)
    data = LabelledImages(torch.from_numpy(images), torch.tensor(labels), torch.arange(len(labels)))
    return Contents(data, classes, names if names and len(names) == classes else None)


def _class_names(samples: Any) -> tuple[str, ...] | None:
    """Returns the names of the classes, if torchvision knows them."""
    names = getattr(samples, "classes", None) or getattr(samples, "categories", None)
    if not names:
        return None
    return tuple(str(name[0]) if isinstance(name, tuple | list) and name else str(name) for name in names)
