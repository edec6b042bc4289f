"""Registers the datasets that are part of advbench."""

from __future__ import annotations

from collections.abc import Callable

from advbench.api import Dataset, hookimpl
from advbench_datasets.cifar10 import Cifar10
from advbench_datasets.cifar10_20 import Cifar10First20
from advbench_datasets.image_folder import ImageFolder
from advbench_datasets.mnist import Mnist
from advbench_datasets.mnist_5k import Mnist5k
from advbench_datasets.mnist_20 import Mnist20
from advbench_datasets.npz import Npz


@hookimpl
def register_datasets(register: Callable[[type[Dataset]], None]) -> None:
    """Registers the datasets of this package."""
    for dataset in (Mnist, Mnist5k, Mnist20, Cifar10, Cifar10First20, ImageFolder, Npz):
        register(dataset)
