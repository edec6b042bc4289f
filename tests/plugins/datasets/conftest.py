from __future__ import annotations

import os
from pathlib import Path

import platformdirs
import pytest

from advbench.api import DataSources


@pytest.fixture
def sources(tmp_path: Path) -> DataSources:
    """Nothing cached, nothing given, nothing downloaded."""
    return DataSources(cache_dir=tmp_path / "cache", download=False)


@pytest.fixture
def full_mnist(tmp_path: Path) -> DataSources:
    """Sources that have all of MNIST; skips the test where it is not at hand."""
    if given := os.environ.get("ADVBENCH_DATA_DIR"):
        return DataSources(cache_dir=tmp_path / "cache", data_dir=Path(given), download=False)
    cache = Path(platformdirs.user_cache_dir("advbench")) / "datasets"
    if (cache / "mnist.safetensors").is_file():
        return DataSources(cache_dir=cache, download=False)
    pytest.skip("MNIST is not at hand: set ADVBENCH_DATA_DIR to a folder with its four files")
