"""What all datasets of ImageNet's photographs share: their classes, and a square that is cropped after resizing."""

from __future__ import annotations

from typing import ClassVar

from advbench.api import Dataset, ParameterError
from advbench_datasets.imagenet_classes import imagenet_class_names

__all__ = ["ImageNetImages"]


class ImageNetImages(Dataset):
    """Photographs of ImageNet's 1,000 classes.

    Attributes:
        resize: Pixels of the shorter side to resize to; a parameter that the dataset declares.
        crop: Side of the square to crop, in pixels; likewise.
    """

    depends_on: ClassVar[tuple[str, ...]] = ("pillow",)
    num_classes: ClassVar[int] = 1000
    resize: int
    crop: int

    def __post_init__(self) -> None:
        """Validates that the crop is within the resized image.

        Raises:
            ParameterError: It is not.
        """
        super().__post_init__()
        if self.crop > self.resize:
            raise ParameterError(f"crop={self.crop}: is larger than resize={self.resize}")

    @property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """Three channels of the parameter ``crop``."""
        return 3, self.crop, self.crop

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of ImageNet's classes, as torchvision has them."""
        return imagenet_class_names()
