from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest
from tests.plugins.datasets.stand_ins import use_torchvision

from advbench.api import Dataset, DataSources
from advbench_datasets.cifar10 import Cifar10
from advbench_datasets.downloadable import DownloadableDataset
from advbench_datasets.fashion_mnist import FashionMnist
from advbench_datasets.mnist import Mnist

# Asked for before any test is given a cache of its own.
USER_CACHE = Path(platformdirs.user_cache_dir("advbench")) / "datasets"


@pytest.fixture
def sources(tmp_path: Path) -> DataSources:
    """Nothing cached, nothing given, nothing downloaded."""
    return DataSources(cache_dir=tmp_path / "cache", download=False)


@pytest.fixture
def announced() -> list[str]:
    return []


@pytest.fixture
def online(tmp_path: Path, announced: list[str]) -> DataSources:
    return DataSources(cache_dir=tmp_path / "cache", announce=announced.append)


@pytest.fixture
def nothing_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No npm, no package of Debian, and a torchvision whose download fails: no test reaches for the network."""
    monkeypatch.setattr(DownloadableDataset, "debian_folder", tmp_path / "debian")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    use_torchvision(monkeypatch, tmp_path, "raise RuntimeError('Error downloading:\\n<urlopen error: no route>\\n')")


@pytest.fixture
def full_mnist(tmp_path: Path) -> DataSources:
    """Sources that have all of MNIST; skips the test where it is not at hand."""
    return at_hand(Mnist(split="all"), tmp_path)


@pytest.fixture
def full_cifar10(tmp_path: Path) -> DataSources:
    """Sources that have all of CIFAR-10; skips the test where it is not at hand."""
    return at_hand(Cifar10(split="all"), tmp_path)


@pytest.fixture
def full_fashion_mnist(tmp_path: Path) -> DataSources:
    """Sources that have all of Fashion-MNIST; skips the test where it is not at hand."""
    return at_hand(FashionMnist(split="all"), tmp_path)


def at_hand(dataset: Dataset, tmp_path: Path) -> DataSources:
    data_dir = os.environ.get("ADVBENCH_DATA_DIR")
    given = DataSources(tmp_path / "cache", data_dir=Path(data_dir) if data_dir else None, download=False)
    for sources in (given, DataSources(USER_CACHE, download=False)):
        if dataset.location(sources) is not None:
            return sources
    pytest.skip(f"{dataset.name} is not at hand: set ADVBENCH_DATA_DIR to a folder with its files")
