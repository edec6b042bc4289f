"""What is special about Fashion-MNIST: Debian has a package with its files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.plugins.datasets.published import FASHION_MNIST, MNIST
from tests.plugins.datasets.stand_ins import write

from advbench.api import DataError, DataSources
from advbench_datasets.fashion_mnist import FashionMnist

pytestmark = pytest.mark.usefixtures("nothing_at_hand")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the few images of noise the recorded Fashion-MNIST."""
    FASHION_MNIST.make_real(monkeypatch)


def test_debians_package_is_read_where_it_is_installed(tiny: None, online: DataSources, tmp_path: Path) -> None:
    installed = write(tmp_path / "debian" / "fashion-mnist", FASHION_MNIST.forms[1])
    assert FashionMnist().location(online) == str(installed)
    data = FashionMnist(split="all").load(online)
    assert data.images.numpy().tobytes() == FASHION_MNIST.images
    assert not online.cache_dir.exists()


def test_the_users_folder_comes_before_debians(tiny: None, online: DataSources, tmp_path: Path) -> None:
    write(tmp_path / "debian" / "fashion-mnist", MNIST.forms[1])
    mine = dataclasses.replace(online, data_dir=write(tmp_path / "mine", FASHION_MNIST.forms[0]))
    assert FashionMnist().location(mine) == str(tmp_path / "mine")
    assert len(FashionMnist().load(mine)) == FASHION_MNIST.test


def test_the_command_that_installs_debians_package_is_named(online: DataSources) -> None:
    with pytest.raises(DataError) as raised:
        FashionMnist().load(online)
    tried, helps = str(raised.value).split("Any one of these helps")
    assert "Debian's dataset-fashion-mnist" in tried
    assert "apt install dataset-fashion-mnist" in helps


def test_mnist_is_not_taken_for_it(online: DataSources, tmp_path: Path) -> None:
    mine = dataclasses.replace(online, data_dir=write(tmp_path / "mine", MNIST.forms[0]))
    with pytest.raises(DataError, match=r"not Fashion-MNIST's .* \(MNIST and others use the same file names\)"):
        FashionMnist().load(mine)
