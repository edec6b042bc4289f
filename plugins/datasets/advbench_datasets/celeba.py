"""CelebA: faces of celebrities with 40 attributes, each of which makes two classes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from advbench.api import DataError, Dataset, DataSources, LabelledImages, param
from advbench_datasets.decoded_images import Decoded, decoded_images, list_files
from advbench_datasets.image_files import INTERPOLATIONS, ReadOptions

__all__ = ["ATTRIBUTES", "CelebA"]

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes",
    "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling",
    "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)  # fmt: skip
"""The attributes, as the columns of list_attr_celeba.txt name them."""

DIGESTS: Mapping[str, str] = {"list_attr_celeba.txt": "75e246fa4810816ffd6ee81facbd244c"}
"""MD5 of the file of attributes, as torchvision has it."""

SPLITS: Mapping[str, range] = {
    "test": range(182_637, 202_599),
    "valid": range(162_770, 182_637),
    "train": range(162_770),
    "all": range(202_599),
}
"""Sample ids by split, as in list_eval_partition.txt: the number in the file's name, minus 1."""

_REMEDY = (
    "torchvision.datasets.CelebA('DIR', download=True) downloads it (1.4 GB; pip install gdown); then give root=DIR "
    "or --data-dir DIR"
)


@dataclasses.dataclass(frozen=True)
class CelebA(Dataset):
    """Faces with one of 40 attributes or without it: ``celeba:attribute=Smiling``; the classes are no (0) and yes (1).

    Reads the aligned images, ``img_align_celeba/*.jpg``, and ``list_attr_celeba.txt``. Each image is resized and its
    centre square is cropped. Images are decoded once and kept.
    """

    name: ClassVar[str] = "celeba"
    source: ClassVar[str] = "Liu, Luo, Wang and Tang 2015, Deep Learning Face Attributes in the Wild"
    depends_on: ClassVar[tuple[str, ...]] = ("pillow",)
    num_classes: ClassVar[int] = 2

    attribute: str = param("Smiling", choices=ATTRIBUTES, help="the attribute that the classes are about")
    split: str = param("test", choices=tuple(SPLITS), help="the part of the dataset")
    size: int = param(64, min=1, max=178, help="pixels of the shorter side, and of the square that is cropped")
    interpolation: str = param("bilinear", choices=INTERPOLATIONS, help="filter for resizing")
    root: str | None = param(None, help="folder with the files, or with a folder celeba; none: --data-dir")

    @property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """Three channels of the parameter ``size``."""
        return 3, self.size, self.size

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The attribute's name, and its negation."""
        name = self.attribute.replace("_", " ").lower()
        return f"not {name}", name

    def ids(self) -> Sequence[int]:
        """Returns the sample ids of the split."""
        return SPLITS[self.split]

    def load(self, sources: DataSources) -> LabelledImages:
        """Reads the images; decodes them first if this has not been done.

        Raises:
            DataError: The files are missing, or they are not CelebA's.
        """
        return self._decoded(sources).images

    def digest(self, sources: DataSources) -> str:
        """Returns the SHA-256 of the decoded images."""
        return self._decoded(sources).digest

    def location(self, sources: DataSources) -> str | None:
        """Returns the folder of the files, or None."""
        folder = self._folder(sources)
        return str(folder) if folder else None

    def how_to_get(self) -> str:
        """Returns the call of torchvision that downloads it."""
        return _REMEDY

    def _folder(self, sources: DataSources) -> Path | None:
        root = sources.data_dir if self.root is None else Path(self.root).expanduser()
        if root is None:
            return None
        folders = (root, root / "celeba")
        return next((folder for folder in folders if (folder / "list_attr_celeba.txt").is_file()), None)

    def _decoded(self, sources: DataSources) -> Decoded:
        folder = self._folder(sources)
        if folder is None:
            given = self.root or sources.data_dir
            where = f"{given} has no list_attr_celeba.txt" if given else "neither root nor --data-dir is given"
            raise DataError(f"{self.name}: {where}: {_REMEDY}")
        ids = self.ids()
        labels = _labels(folder / "list_attr_celeba.txt", self.attribute)
        files = [f"img_align_celeba/{number + 1:06d}.jpg" for number in ids]
        options = ReadOptions(self.name, "RGB", self.interpolation, resize=(self.size,), crop=(self.size,))
        listed = list_files(self.name, folder, files, [labels[number] for number in ids], ids)
        return decoded_images(listed, options, sources)


@functools.lru_cache(maxsize=4)
def _labels(file: Path, attribute: str) -> tuple[int, ...]:
    """Returns whether each image has the attribute, 0 or 1, in the order of the file."""
    content = file.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != DIGESTS[file.name]:
        raise DataError(f"celeba: {file} is not CelebA's: its MD5 differs from the recorded one; {_REMEDY}")
    lines = content.decode("ascii").splitlines()
    column = lines[1].split().index(attribute) + 1
    return tuple(int(line.split()[column] == "1") for line in lines[2:] if line)
