"""All 70,000 images of Fashion-MNIST."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from advbench_datasets.downloadable import Split
from advbench_datasets.idx_dataset import TEST, TRAIN, IdxDataset, idx_files

__all__ = ["FASHION_MNIST_CLASSES", "FashionMnist"]

FASHION_MNIST_CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
"""Class names in the order of the labels."""

DIGESTS: Mapping[str, str] = {
    "train-images-idx3-ubyte": "2e487a6c89124f78f2d7521542223cafe96f7123c3ca13d447772ac6ecbb3012",
    "train-labels-idx1-ubyte": "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7",
    "t10k-images-idx3-ubyte": "c867c93ff95360594e8ec3287995350b824dd110b11595c0e13d5423f621867a",
    "t10k-labels-idx1-ubyte": "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9",
}
"""SHA-256 of each file's content after the header."""

SPLITS: Mapping[str, Split] = {
    "test": Split(range(60_000, 70_000), TEST, "1bcad072f3a2569153e8ec6ad91d6ef74bc345d99c7533a3658b4d442a8102d7"),
    "train": Split(range(60_000), TRAIN, "7ecc5999fcf6cdf70dc0f0ab0fbb0150826633f8adbe94db7bd3b09411ca7d05"),
    "all": Split(range(70_000), TRAIN + TEST, "33f2b70ea71a36719205aad166a2275ad1053a2abc39651e8952f1d4a4ed0cb4"),
}


@dataclasses.dataclass(frozen=True)
class FashionMnist(IdxDataset):
    """70,000 pictures of clothes; read from --data-dir or Debian's package, or downloaded once and kept.

    Training images have the sample ids 0 to 59999, test images 60000 to 69999, in every split.
    """

    name = "fashion-mnist"
    source = "Xiao, Rasul and Vollgraf 2017, Fashion-MNIST: a Novel Image Dataset for Benchmarking ML Algorithms"
    image_shape = (1, 28, 28)
    num_classes = 10
    class_names = FASHION_MNIST_CLASSES
    files = idx_files(
        "Fashion-MNIST", DIGESTS, ("FashionMNIST/raw", "fashion-mnist", "."), "MNIST and others use the same file names"
    )
    splits = SPLITS
    data_dir_help = f"{', '.join(DIGESTS)} (plain or .gz; also in torchvision's subfolder FashionMNIST/raw/)"
    torchvision_class = "FashionMNIST"
    debian_name = "dataset-fashion-mnist"
    download_size = "31 MB"
    download_seconds = 300
