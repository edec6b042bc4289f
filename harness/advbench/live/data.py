"""Data of this session as a dataset: arrays, and what torch's own loaders and datasets hold."""

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
"""What may stand for a dataset, for messages."""

_TRIED = 4
"""So many samples are read twice, to see whether they are the same both times."""


def is_data(thing: Any) -> bool:
    """Whether a thing is one dataset, rather than several or none."""
    if isinstance(thing, (torch_data.Dataset, torch_data.DataLoader)):
        return True
    if isinstance(thing, tuple) and len(thing) == 2 and all(_is_array(x) for x in thing):
        return np.ndim(thing[1]) > 0
    return isinstance(thing, (list, tuple)) and bool(thing) and all(_is_pair(one) for one in thing)


def live_dataset(name: str, thing: Any) -> type[Dataset]:
    """A dataset's class, without parameters, that stands for a thing.

    Raises:
        UsageError: It has no images and labels that can be used.
    """
    if isinstance(thing, tuple) and len(thing) == 2 and _is_array(thing[0]):
        images, labels = thing
    else:
        images, labels = _stacked(thing)
    try:
        pixels = to_pixels(images, channels_first=_says_channels(images))
        classes, count = to_labels(labels, len(pixels))
    except ValueError as error:
        raise UsageError(f"datasets: {_called(thing)} has {error}") from error
    names = _class_names(thing, count)
    found = LabelledImages(pixels.clone(), classes.clone(), torch.arange(len(classes)))  # the user may change theirs
    shape = (int(pixels.shape[1]), int(pixels.shape[2]), int(pixels.shape[3]))

    class LiveDataset(Dataset):
        """Images and labels of this session."""

        image_shape = shape
        num_classes = max(count, 2, len(names or ()))
        class_names = names

        def ids(self) -> Sequence[int]:
            return range(len(found))

        def load(self, sources: DataSources) -> LabelledImages:
            del sources
            return found

        def digest(self, sources: DataSources) -> str:
            del sources
            return hashlib.sha256(f"{self.num_classes} {found.digest()}".encode()).hexdigest()

    LiveDataset.name = name
    return LiveDataset


def _is_array(thing: Any) -> bool:
    return isinstance(thing, (torch.Tensor, np.ndarray))


def _is_pair(thing: Any) -> bool:
    """Whether a thing is one image with its label."""
    if not isinstance(thing, (tuple, list)) or len(thing) != 2:
        return False
    image, label = thing
    return (_is_image(image) or (_is_array(image) and image.ndim in (2, 3))) and _is_label(label)


def _is_image(thing: Any) -> bool:
    """Whether a thing is an image of Pillow's, which need not be imported to find out."""
    return any(base.__module__ == "PIL.Image" and base.__name__ == "Image" for base in type(thing).__mro__)


def _is_label(thing: Any) -> bool:
    return isinstance(thing, (int, np.integer)) or (_is_array(thing) and np.size(thing) == 1)


def _says_channels(images: Any) -> bool:
    """Whether images are channels first by convention: torch's always, NumPy's where they may be either."""
    if isinstance(images, torch.Tensor):
        return True
    return images.ndim == 4 and (images.shape[1] in (1, 3) or images.shape[3] not in (1, 3))


def _called(thing: Any) -> str:
    return "the data" if isinstance(thing, (tuple, list)) else f"the {type(thing).__name__}"


def _stacked(thing: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """All images and labels, in the order of the dataset."""
    what = _called(thing)
    source = thing.dataset if isinstance(thing, torch_data.DataLoader) else thing
    if isinstance(source, torch_data.IterableDataset):
        raise UsageError(f"datasets: {what} is a stream, without order and length; give a dataset with an index")
    try:
        _check_the_same_twice(what, source)
        return _read(what, thing)
    except UsageError:
        raise
    except Exception as error:  # what a user's dataset raises
        raise UsageError(f"datasets: {what} cannot be read: {describe(error)}") from error


def _read(what: str, thing: Any) -> tuple[torch.Tensor, torch.Tensor]:
    images: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    for some, told in _batches(what, thing):
        if images and some.shape[1:] != images[0].shape[1:]:
            raise UsageError(
                f"datasets: {what} has images of shape {tuple(images[0].shape[1:])} and {tuple(some.shape[1:])}; bring "
                "all to one size"
            )
        images.append(some)
        labels.append(told)
    if not images:
        raise UsageError(f"datasets: {what} is empty")
    return torch.cat(images), torch.cat(labels)


def _batches(what: str, thing: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    if not isinstance(thing, torch_data.DataLoader):
        samples: Iterable[Any] = (thing[place] for place in range(_length(what, thing)))
    else:
        samples = _ordered(what, thing)
    if not isinstance(thing, torch_data.DataLoader) or thing.batch_sampler is None:  # batch_size=None: one at a time
        for sample in samples:
            image, label = _pair(what, sample)
            yield _image(what, image)[None], torch.as_tensor(label).reshape(1, -1)
        return
    for batch in samples:
        images, labels = _pair(what, batch)
        if not _is_array(images) or not _is_array(labels):
            raise UsageError(
                f"datasets: {what} gives batches of {type(images).__name__} and {type(labels).__name__}; expected "
                "tensors of images and labels"
            )
        images, labels = torch.as_tensor(images), torch.as_tensor(labels)
        yield images, labels[:, None] if labels.ndim == 1 else labels


def _ordered(what: str, loader: torch_data.DataLoader[Any]) -> Iterable[Any]:
    """A loader's batches in the order of its dataset, which shuffling changes and nothing else."""
    sampler, plain = loader.sampler, type(loader.batch_sampler) in (torch_data.BatchSampler, type(None))
    if plain and isinstance(sampler, torch_data.SequentialSampler):
        return loader
    every = isinstance(sampler, torch_data.RandomSampler) and not sampler.replacement
    if plain and every and sampler.num_samples == _length(what, loader.dataset):  # type: ignore[attr-defined]
        return torch_data.DataLoader(
            loader.dataset, batch_size=loader.batch_size, collate_fn=loader.collate_fn, num_workers=loader.num_workers
        )
    picks = type(loader.batch_sampler if not plain else sampler).__name__
    raise UsageError(
        f"datasets: {what} picks its samples by a {picks}, whose order may change; give a DataLoader of "
        "torch.utils.data.Subset(dataset, indices), without a sampler"
    )


def _check_the_same_twice(what: str, thing: Any) -> None:
    """Refuses random transforms: each run would be of other images."""
    for place in range(min(_TRIED, _length(what, thing))):
        if not _is_pair(thing[place]):
            return  # a loader may make pairs of it
        first, second = (_image(what, thing[place][0]) for _ in range(2))
        if not torch.equal(torch.nan_to_num(first.float()), torch.nan_to_num(second.float())):
            raise UsageError(
                f"datasets: {what} gives another image at each reading of sample {place}; leave out random transforms"
            )


def _length(what: str, thing: Any) -> int:
    try:
        return len(thing)
    except TypeError as error:
        raise UsageError(f"datasets: {what} does not say how many samples it has; give it a __len__") from error


def _pair(what: str, given: Any) -> tuple[Any, Any]:
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return given[0], given[1]
    told = f"{len(given)} things" if isinstance(given, (tuple, list)) else f"a {type(given).__name__}"
    raise UsageError(f"datasets: {what} gives {told} a sample; expected (image, label)")


def _image(what: str, image: Any) -> torch.Tensor:
    """One image, shape (channels, height, width)."""
    if _is_image(image):
        if image.mode not in ("L", "RGB"):
            raise UsageError(
                f"datasets: {what} gives images of the mode {image.mode}; convert them with .convert('RGB')"
            )
        pixels = np.array(image)
        return torch.from_numpy(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1).copy())
    if not _is_array(image) or image.ndim not in (2, 3):
        shape = f" of shape {tuple(image.shape)}" if _is_array(image) else ""
        raise UsageError(
            f"datasets: {what} gives images as {type(image).__name__}{shape}; expected a tensor of shape (channels, "
            "height, width)"
        )
    if image.ndim == 2:
        return torch.as_tensor(image)[None]
    if isinstance(image, np.ndarray) and image.shape[0] not in (1, 3) and image.shape[2] in (1, 3):
        image = image.transpose(2, 0, 1).copy()
    return torch.as_tensor(image)


def _class_names(thing: Any, count: int) -> tuple[str, ...] | None:
    """The names that torchvision's datasets have under ``classes``, also within a subset or loader."""
    for _ in range(8):
        names = getattr(thing, "classes", None)
        if isinstance(names, (list, tuple)) and len(names) >= count:
            told = [", ".join(name) if isinstance(name, tuple) else name for name in names]
            return tuple(told) if all(isinstance(name, str) for name in told) else None
        thing = getattr(thing, "dataset", None)
        if thing is None:
            return None
    return None
