"""Live data as a dataset: arrays, and torch's loaders and datasets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import data as torch_data

from advbench.api import Dataset, DataSources, LabelledImages, to_labels, to_pixels
from advbench.errors import UsageError, describe

__all__ = ["EXPECTED", "is_data", "live_dataset"]

EXPECTED = "a spec, (images, labels), a TensorDataset, a DataLoader, or a torch Dataset of (image, label) pairs"
"""The kinds of data that can be used as a dataset, for messages."""

_PROBED = 4
"""Number of samples that are read twice, to detect random transforms."""


def is_data(data: Any) -> bool:
    """Whether an object is a single dataset, rather than a sequence of datasets or something else."""
    if isinstance(data, (torch_data.Dataset, torch_data.DataLoader)) or _is_images_and_labels(data):
        return True
    return isinstance(data, (list, tuple)) and bool(data) and all(_is_pair(item) for item in data)


def live_dataset(name: str, data: Any) -> type[Dataset]:
    """Makes a dataset class, without parameters, from live data.

    Args:
        name: The name of the dataset.
        data: One of :data:`EXPECTED`, except for a spec.

    Raises:
        UsageError: The data has no usable images and labels.
    """
    if _is_images_and_labels(data):
        images, labels = _image_array(data[0]), _label_array(data[1])
    else:
        images, labels = _read_dataset(data)
    try:
        pixels = to_pixels(images, channels_first=_is_channels_first(images))
        classes, count = to_labels(labels, len(pixels))
    except ValueError as error:
        raise UsageError(f"datasets: {_called(data)} has {error}") from error
    names = _class_names(data, count)
    # Cloned, because the user may change the originals.
    samples = LabelledImages(pixels.clone(), classes.clone(), torch.arange(len(classes)))
    shape = (int(pixels.shape[1]), int(pixels.shape[2]), int(pixels.shape[3]))

    class LiveDataset(Dataset):
        """Images and labels of this session."""

        image_shape = shape
        num_classes = max(count, 2, len(names or ()))
        class_names = names

        def ids(self) -> Sequence[int]:
            return range(len(samples))

        def load(self, sources: DataSources) -> LabelledImages:
            del sources
            return samples

        def digest(self, sources: DataSources) -> str:
            del sources
            return hashlib.sha256(f"{self.num_classes} {samples.digest()}".encode()).hexdigest()

    LiveDataset.name = name
    return LiveDataset


def _is_images_and_labels(data: Any) -> bool:
    """Whether an object is a pair of all images and all labels, which may turn out to be wrong."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    images = data[0]
    return _is_array(images) or (isinstance(images, (tuple, list)) and bool(images) and all(map(_is_one_image, images)))


def _is_one_image(data: Any) -> bool:
    return _is_image(data) or (_is_array(data) and data.ndim in (2, 3))


def _image_array(images: Any) -> Any:
    """Images as an array: also from a list of arrays or Pillow images, all of one size."""
    if _is_array(images):
        return images
    return _joined("the data", [_image("the data", image)[None] for image in images])


def _label_array(labels: Any) -> Any:
    """Labels as an array: also from a list of numbers or tensors, or from a column of a table."""
    if _is_array(labels):
        return labels
    if isinstance(labels, (list, tuple)):
        labels = [label.tolist() if _is_array(label) else label for label in labels]
    try:
        return np.asarray(labels)
    except ValueError as error:
        raise UsageError(
            "datasets: the data has labels of several lengths; expected whole numbers from 0, or one-hot rows"
        ) from error


def _is_array(data: Any) -> bool:
    return isinstance(data, (torch.Tensor, np.ndarray))


def _is_pair(data: Any) -> bool:
    """Whether an object is an image with its label."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    image, label = data
    return _is_one_image(image) and _is_label(label)


def _is_image(data: Any) -> bool:
    """Whether an object is a Pillow image; does not import Pillow."""
    return any(base.__module__ == "PIL.Image" and base.__name__ == "Image" for base in type(data).__mro__)


def _is_label(data: Any) -> bool:
    return isinstance(data, (int, np.integer)) or (_is_array(data) and np.size(data) == 1)


def _is_channels_first(images: Any) -> bool:
    """Whether images are channels first by convention: always for torch, and for NumPy if they are ambiguous."""
    if isinstance(images, torch.Tensor):
        return True
    return images.ndim == 4 and (images.shape[1] in (1, 3) or images.shape[3] not in (1, 3))


def _called(data: Any) -> str:
    return "the data" if isinstance(data, (tuple, list)) else f"the {type(data).__name__}"


def _read_dataset(data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Reads all images and labels, in the order of the dataset."""
    what = _called(data)
    source = data.dataset if isinstance(data, torch_data.DataLoader) else data
    if isinstance(source, torch_data.IterableDataset):
        raise UsageError(f"datasets: {what} is a stream, without order and length; give a dataset with __getitem__")
    try:
        _check_deterministic(what, source)
        return _read(what, data)
    except UsageError:
        raise
    except Exception as error:  # the user's dataset may raise anything
        raise UsageError(f"datasets: {what} cannot be read: {describe(error)}") from error


def _read(what: str, data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    images: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    for batch, batch_labels in _batches(what, data):
        images.append(batch)
        labels.append(batch_labels)
    if not images:
        raise UsageError(f"datasets: {what} is empty")
    return _joined(what, images), torch.cat(labels)


def _joined(what: str, batches: Sequence[torch.Tensor]) -> torch.Tensor:
    """All images of some batches."""
    first = tuple(batches[0].shape[1:])
    for batch in batches:
        if tuple(batch.shape[1:]) != first:
            raise UsageError(
                f"datasets: {what} has images of shape {first} and {tuple(batch.shape[1:])}; resize them to one size"
            )
    return torch.cat(list(batches))


def _batches(what: str, data: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    if not isinstance(data, torch_data.DataLoader):
        samples: Iterable[Any] = (data[index] for index in range(_length(what, data)))
    else:
        samples = _ordered(what, data)
    if (
        not isinstance(data, torch_data.DataLoader) or data.batch_sampler is None
    ):  # batch_size=None gives single samples
        for sample in samples:
            image, label = _pair(what, sample)
            yield _image(what, image)[None], torch.as_tensor(label).reshape(1, -1)
        return
    for batch in samples:
        images, labels = _pair(what, batch)
        if not _is_array(images) or not _is_array(labels):
            raise UsageError(
                f"datasets: {what} returns batches of {type(images).__name__} and {type(labels).__name__}; expected "
                "tensors of images and labels"
            )
        images, labels = torch.as_tensor(images), torch.as_tensor(labels)
        yield images, labels[:, None] if labels.ndim == 1 else labels


def _ordered(what: str, loader: torch_data.DataLoader[Any]) -> Iterable[Any]:
    """The batches of a loader in the order of its dataset. Shuffling is undone; other samplers are an error."""
    sampler, plain = loader.sampler, type(loader.batch_sampler) in (torch_data.BatchSampler, type(None))
    if plain and isinstance(sampler, torch_data.SequentialSampler):
        return loader
    shuffled = isinstance(sampler, torch_data.RandomSampler) and not sampler.replacement
    if plain and shuffled and sampler.num_samples == _length(what, loader.dataset):  # type: ignore[attr-defined]
        return torch_data.DataLoader(
            loader.dataset, batch_size=loader.batch_size, collate_fn=loader.collate_fn, num_workers=loader.num_workers
        )
    sampler_name = type(loader.batch_sampler if not plain else sampler).__name__
    raise UsageError(
        f"datasets: {what} selects its samples with a {sampler_name}, whose order may change; give a DataLoader of "
        "torch.utils.data.Subset(dataset, indices), without a sampler"
    )


def _check_deterministic(what: str, data: Any) -> None:
    """Raises UsageError for random transforms, because each run would use other images."""
    for index in range(min(_PROBED, _length(what, data))):
        if not _is_pair(data[index]):
            return  # the collate function of a loader may turn it into a pair
        first, second = (_image(what, data[index][0]) for _ in range(2))
        if not torch.equal(torch.nan_to_num(first.float()), torch.nan_to_num(second.float())):
            raise UsageError(
                f"datasets: {what} returns another image each time sample {index} is read; remove random transforms"
            )


def _length(what: str, data: Any) -> int:
    try:
        return len(data)
    except TypeError as error:
        raise UsageError(f"datasets: {what} has no length; define __len__") from error


def _pair(what: str, given: Any) -> tuple[Any, Any]:
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return given[0], given[1]
    returned = f"{len(given)} values" if isinstance(given, (tuple, list)) else f"a {type(given).__name__}"
    raise UsageError(f"datasets: {what} returns {returned} per sample; expected (image, label)")


def _image(what: str, image: Any) -> torch.Tensor:
    """Converts one image to a tensor of shape (channels, height, width)."""
    if _is_image(image):
        if image.mode not in ("L", "RGB"):
            raise UsageError(f"datasets: {what} returns images of mode {image.mode}; convert them with .convert('RGB')")
        pixels = np.array(image)
        return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())
    if not _is_array(image) or image.ndim not in (2, 3):
        shape = f" of shape {tuple(image.shape)}" if _is_array(image) else ""
        raise UsageError(
            f"datasets: {what} returns images as {type(image).__name__}{shape}; expected a tensor of shape (channels, "
            "height, width)"
        )
    if image.ndim == 2:
        return torch.as_tensor(image)[None]
    if isinstance(image, np.ndarray) and image.shape[0] not in (1, 3) and image.shape[2] in (1, 3):
        image = image.transpose(2, 0, 1).copy()
    return torch.as_tensor(image)


def _class_names(data: Any, count: int) -> tuple[str, ...] | None:
    """The class names in the attribute ``classes`` of torchvision's datasets, also within a subset or loader."""
    for _ in range(8):
        names = getattr(data, "classes", None)
        if isinstance(names, (list, tuple)) and len(names) >= count:
            texts = [", ".join(name) if isinstance(name, tuple) else name for name in names]
            return tuple(texts) if all(isinstance(text, str) for text in texts) else None
        data = getattr(data, "dataset", None)
        if data is None:
            return None
    return None
