"""Checks of what datasets load."""

from __future__ import annotations

import dataclasses

import torch

from advbench.api import ContractError, Dataset, LabelledImages, clip_dust

__all__ = ["check_dataset"]


def check_dataset(dataset: Dataset, images: object) -> LabelledImages:
    """Checks the shapes, values, labels and ids of what a dataset loads.

    Returns:
        The images, with pixels that are up to 1e-6 outside [0, 1] clipped.

    Raises:
        ContractError: A check failed; the message names the dataset, what was expected and what it loaded.
    """
    label = f"dataset {dataset.name!r}"
    if not isinstance(images, LabelledImages):
        raise ContractError(f"{label} loaded {type(images).__name__}; expected LabelledImages")
    pixels, labels, ids = images.images, images.labels, images.ids
    n = len(ids)
    if tuple(pixels.shape) != (n, *dataset.image_shape):
        raise ContractError(f"{label} has images of shape {tuple(pixels.shape)}; expected {(n, *dataset.image_shape)}")
    if pixels.dtype not in (torch.uint8, torch.float32):
        raise ContractError(f"{label} has images of {pixels.dtype}; expected torch.uint8 or torch.float32")
    if pixels.dtype == torch.float32:
        try:
            images = dataclasses.replace(images, images=clip_dust(pixels))
        except ValueError as error:
            raise ContractError(f"{label} has {error}") from error
    if labels.dtype != torch.int64 or tuple(labels.shape) != (n,):
        raise ContractError(
            f"{label} has labels of {labels.dtype}, shape {tuple(labels.shape)}; expected int64, {(n,)}"
        )
    if n and not 0 <= int(labels.min()) <= int(labels.max()) < dataset.num_classes:
        raise ContractError(f"{label} has labels outside 0 to {dataset.num_classes - 1}")
    if ids.tolist() != list(dataset.ids()) or bool((ids[1:] <= ids[:-1]).any()):
        raise ContractError(f"{label} loads sample ids that are not ascending, or not those that its ids() returns")
    return images
