"""Registers the datasets that are part of advbench."""

from __future__ import annotations

from collections.abc import Callable

from advbench.api import Dataset, hookimpl
from advbench_datasets.celeba import CelebA
from advbench_datasets.cifar10 import Cifar10
from advbench_datasets.cifar10_20 import Cifar10First20
from advbench_datasets.cifar10_c import Cifar10C
from advbench_datasets.cifar100 import Cifar100
from advbench_datasets.cifar100_20 import Cifar100First20
from advbench_datasets.fashion_mnist import FashionMnist
from advbench_datasets.fashion_mnist_20 import FashionMnist20
from advbench_datasets.image_folder import ImageFolder
from advbench_datasets.imagenet import ImageNet
from advbench_datasets.imagenet_20 import ImageNet20
from advbench_datasets.mnist import Mnist
from advbench_datasets.mnist_5k import Mnist5k
from advbench_datasets.mnist_20 import Mnist20
from advbench_datasets.npz import Npz
from advbench_datasets.torchvision_dataset import TorchvisionDataset

DATASETS: tuple[type[Dataset], ...] = (
    Mnist5k, Mnist20, FashionMnist20, Cifar10First20, Cifar100First20, ImageNet20,
    Mnist, FashionMnist, Cifar10, Cifar10C, Cifar100, CelebA, ImageNet, TorchvisionDataset, ImageFolder, Npz,
)  # fmt: skip


@hookimpl
def register_datasets(register: Callable[[type[Dataset]], None]) -> None:
    """Registers the datasets of this package."""
    for dataset in DATASETS:
        register(dataset)
