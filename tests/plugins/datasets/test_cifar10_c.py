"""CIFAR-10-C in its authors' files."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest

from advbench.api import DataError, DataSources, ParameterError
from advbench_datasets import cifar10_c
from advbench_datasets.cifar10_c import CORRUPTIONS, Cifar10C

PIXELS = np.random.default_rng(0).integers(0, 256, (15, 32, 32, 3), dtype=np.uint8)
LABELS = np.tile(np.array([3, 8, 0]), 5)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images at five severities, in the authors' form."""
    monkeypatch.setattr(cifar10_c, "TEST_IMAGES", 3)
    monkeypatch.setattr(cifar10_c, "LABELS_DIGEST", hashlib.sha256(bytes([3, 8, 0])).hexdigest())
    folder = tmp_path / "data" / "CIFAR-10-C"
    folder.mkdir(parents=True)
    np.save(folder / "fog.npy", PIXELS)
    np.save(folder / "labels.npy", LABELS)
    return folder


@pytest.fixture
def given(files: Path, sources: DataSources) -> DataSources:
    return dataclasses.replace(sources, data_dir=files.parent)


def test_a_severity_has_its_rows_of_the_file(files: Path, given: DataSources) -> None:
    for severity in (1, 3, 5):
        dataset = Cifar10C(corruption="fog", severity=severity)
        data = dataset.load(given)
        rows = PIXELS[3 * (severity - 1) : 3 * severity]
        assert np.array_equal(data.images.numpy(), rows.transpose(0, 3, 1, 2))
        assert data.labels.tolist() == [3, 8, 0]
        assert data.ids.tolist() == list(dataset.ids()) == [50_000, 50_001, 50_002]
    inside = dataclasses.replace(given, data_dir=files)
    assert Cifar10C(corruption="fog").digest(inside) == Cifar10C(corruption="fog").digest(given)
    assert Cifar10C(corruption="fog").digest(given) != Cifar10C(corruption="fog", severity=4).digest(given)
    assert Cifar10C(corruption="fog").location(given) == str(files)


def test_a_changed_file_has_another_digest(files: Path, given: DataSources) -> None:
    before = Cifar10C(corruption="fog").digest(given)
    np.save(files / "fog.npy", np.concatenate([PIXELS[:-1], PIXELS[:1]])[::-1])
    assert Cifar10C(corruption="fog").digest(given) != before


def test_missing_files_are_reported_with_the_way_to_get_them(given: DataSources, sources: DataSources) -> None:
    snow = Cifar10C(corruption="snow")
    assert snow.location(given) is None
    with pytest.raises(DataError, match=r"snow.npy and labels.npy .*data does not have them\): download"):
        snow.load(given)
    with pytest.raises(DataError, match=r"--data-dir: not given"):
        snow.load(sources)


def test_labels_of_another_dataset_are_rejected(files: Path, given: DataSources) -> None:
    np.save(files / "labels.npy", LABELS[::-1].copy())
    with pytest.raises(DataError, match=r"labels.npy has other labels than CIFAR-10's test set"):
        Cifar10C(corruption="fog").load(given)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PIXELS[:-1], r"shape \(14, 32, 32, 3\), not \(15, 32, 32, 3\)"),
        (PIXELS / 255, "values of float64, not uint8"),
        (np.array([{}] * 15), "is damaged"),
    ],
    ids=["too few", "other type", "pickled"],
)
def test_files_of_another_form_are_rejected(content: np.ndarray, reason: str, files: Path, given: DataSources) -> None:
    np.save(files / "fog.npy", content)
    with pytest.raises(DataError, match=f"fog.npy.* {reason}"):
        Cifar10C(corruption="fog").load(given)


def test_a_file_cut_short_is_rejected(files: Path, given: DataSources) -> None:
    (files / "fog.npy").write_bytes((files / "fog.npy").read_bytes()[:-5])
    with pytest.raises(DataError, match=r"fog.npy is damaged"):
        Cifar10C(corruption="fog").load(given)


def test_the_corruptions_are_the_nineteen_files() -> None:
    assert len(set(CORRUPTIONS)) == 19
    with pytest.raises(ParameterError, match="corruption"):
        Cifar10C(corruption="mist")
