"""Arrays of every form that users save: read where it is certain what they mean, else refused in one line."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from advbench.api import DataSources
from advbench.discovery.loading import discover
from advbench.specs import resolve_one

pytestmark = pytest.mark.slow

SOURCES = DataSources(Path("nowhere"))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
PIXELS[0, 0, 0] = [0, 128, 255]
UNIT = (PIXELS / 255).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def build(spec: str) -> Any:
    return resolve_one(discover(), "datasets", spec)


def save(tmp_path: Path, **arrays: Any) -> str:
    np.savez(tmp_path / "d.npz", **arrays)
    return f"npz:path={tmp_path / 'd.npz'}"


@pytest.fixture
def refused(call: Callable[..., Any], tmp_path: Path) -> Callable[..., str]:
    """Sees a file refused by the command line, and returns its one line."""

    def error_message(**arrays: Any) -> str:
        if arrays:
            save(tmp_path, **arrays)
        called = call("matrix", "--datasets", f"npz:path={tmp_path / 'd.npz'}", "--models", "mnist-cnn")
        assert called.code == 2
        line: str = called.error_line()
        assert line.startswith(f"advbench matrix: error: npz: {tmp_path / 'd.npz'} ")
        return line

    return error_message


def header(shape: tuple[int, ...]) -> bytes:
    """What an array of uint8 begins with."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return content.getvalue()


@pytest.mark.parametrize(
    "images",
    [
        UNIT * np.float32(1.0000002),
        UNIT.astype(np.float64) * 1.0000009,
        UNIT - np.float32(9e-7),
        UNIT.astype(np.float64),
        PIXELS.astype(np.int64),
        PIXELS.astype(np.uint16),
        PIXELS.astype(np.float32),
        PIXELS.astype(np.float64),
        PIXELS.astype(np.uint16) * np.uint16(257),
        np.asfortranarray(UNIT),
    ],
    ids=lambda images: f"{images.dtype} to {images.max():.8g}",
)
def test_dtypes_with_a_certain_white_value_are_read(tmp_path: Path, images: Any) -> None:
    data = build(save(tmp_path, images=images, labels=LABELS)).load(SOURCES)
    read = data.take(range(6))[0]
    assert torch.allclose(read, torch.from_numpy(UNIT.transpose(0, 3, 1, 2)), atol=2e-6)
    assert 0 <= float(read.min()) <= float(read.max()) <= 1


def test_half_precision_and_booleans_are_read(tmp_path: Path) -> None:
    half = build(save(tmp_path, images=UNIT.astype(np.float16), labels=LABELS)).load(SOURCES)
    assert torch.equal(half.images, torch.from_numpy(UNIT.astype(np.float16).transpose(0, 3, 1, 2)).float())
    ink = build(save(tmp_path, images=PIXELS[..., 0] > 127, labels=LABELS)).load(SOURCES)
    assert torch.equal(ink.take(range(6))[0][:, 0], torch.from_numpy(PIXELS[..., 0] > 127).float())


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (UNIT * np.float32(1.0000021), "has pixels from 0 to 1.0000021; expected [0, 1]: clip them"),
        (UNIT.astype(np.float64) - 0.0000011, "has pixels from -1.1e-06 to 0.9999989; expected [0, 1]"),
        ((UNIT - 0.5) / 0.25, "has pixels from -2 to 2; expected [0, 1]: do not normalise the images"),
        (UNIT * 16, "has pixels from 0 to 16; expected [0, 1]: divide by the value of white"),
        ((UNIT * 16).round(), "has images of float32 from 0 to 16, and the value of white is unknown; save uint8"),
        (PIXELS.astype(int) // 16, "has images of int64 from 0 to 15, and the value of white is unknown; save uint8"),
        (PIXELS.astype(np.uint16) * 16, "has images of uint16 from 0 to 4080, and the value of white is unknown"),
        (PIXELS.astype(np.int16) - 128, "has images of int16 from -128 to 127, and the value of white is unknown"),
        (UNIT.astype(complex), "has images of complex128; expected numbers"),
        (PIXELS.astype(str), "; expected numbers: uint8, or floating-point in [0, 1]"),
        (PIXELS[:0], "has images of shape (0, 8, 8, 3): none"),
        (PIXELS[0], "has 8 images and 6 labels"),
        (PIXELS[..., None], "has images of shape (6, 8, 8, 3, 1); expected (n, height, width)"),
        (np.repeat(PIXELS, 2, axis=3), "has images of shape (6, 8, 8, 6); expected (n, height, width), or that"),
    ],
)  # fmt: skip
def test_ambiguous_images_are_rejected(refused: Callable[..., str], images: Any, message: str) -> None:
    assert message in refused(images=images, labels=LABELS)


def test_nan_pixels_are_counted_and_located(refused: Callable[..., str]) -> None:
    images = UNIT.copy()
    images[4, 1, 2, 0], images[5] = np.nan, -np.inf
    expected = "has 193 pixels that are NaN or infinite, the first at index (4, 0, 1, 2)"
    assert expected in refused(images=images, labels=LABELS)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (LABELS.astype(float), 3),
        (LABELS[:, None], 3),
        (np.eye(3)[LABELS], 3),
        (np.eye(5, dtype=bool)[LABELS], 5),
        (LABELS.astype(np.uint64), 3),
    ],
)
def test_usual_forms_of_labels_are_read(tmp_path: Path, labels: Any, classes: int) -> None:
    dataset = build(save(tmp_path, x_test=PIXELS, y_test=labels))
    assert dataset.load(SOURCES).labels.tolist() == LABELS.tolist()
    assert dataset.num_classes == classes


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS - 1, "has the label -1 at index 0; expected whole numbers from 0"),
        (LABELS / 2, "has the label 0.5 at index 1; expected whole numbers from 0"),
        (np.where(LABELS == 2, np.nan, LABELS), "has the label nan at index 2"),
        (np.array(["cat"] * 6), "has labels of <U3, shape (6,); expected whole numbers from 0"),
        (np.full((6, 3), 1 / 3), "has labels of shape (6, 3) that are not one-hot rows"),
        (LABELS[:, None, None], "has labels of int64, shape (6, 1, 1)"),
        (LABELS[:5], "has 6 images and 5 labels"),
    ],
)
def test_unusable_labels_are_reported(refused: Callable[..., str], labels: Any, message: str) -> None:
    assert message in refused(images=PIXELS, labels=labels)


@pytest.mark.parametrize(
    "keys",
    [("X_test", "y_test"), ("test_images", "test_labels"), ("data", "target"), ("image", "label"), ("images", "y")],
)
def test_usual_keys_are_recognised(tmp_path: Path, keys: tuple[str, str]) -> None:
    dataset = build(save(tmp_path, more=LABELS, **dict(zip(keys, (PIXELS, LABELS), strict=True))))
    assert len(dataset.load(SOURCES)) == 6


def test_of_many_keys_the_first_are_named(refused: Callable[..., str]) -> None:
    arrays = {f"part\x1b{number}": LABELS for number in range(30)}
    line = refused(**arrays)
    assert r"has the arrays part\x1b0, part\x1b1, " in line
    assert "and 18 more; say which: images=KEY,labels=KEY" in line


def test_class_names_are_read(tmp_path: Path) -> None:
    names = np.array(["cat", "dog", "eel", "fox"])
    dataset = build(save(tmp_path, images=PIXELS, labels=LABELS, class_names=names))
    assert (dataset.class_names, dataset.num_classes) == (("cat", "dog", "eel", "fox"), 4)
    assert build(save(tmp_path, images=PIXELS, labels=LABELS, class_names=names.astype(bytes))).class_names[3] == "fox"
    assert build(save(tmp_path, images=PIXELS, labels=LABELS)).class_names is None


@pytest.mark.parametrize("names", [np.array(["cat", "dog"]), np.arange(3), np.array(["cat"] * 3, dtype=object)])
def test_unusable_class_names_are_replaced_by_numbers(tmp_path: Path, names: Any) -> None:
    dataset = build(save(tmp_path, images=PIXELS, labels=LABELS, class_names=names))
    assert (dataset.class_names, dataset.num_classes) == (None, 3)
    (note,) = dataset.notes()
    assert "shown by their numbers" in note


def test_the_number_of_classes_is_part_of_the_digest(tmp_path: Path) -> None:
    spec = save(tmp_path, images=PIXELS, labels=LABELS)
    assert build(spec).digest(SOURCES) != build(f"{spec},classes=7").digest(SOURCES)
    assert build(spec).digest(SOURCES) == build(f"{spec},classes=3").digest(SOURCES)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"images": b"hello", "labels.npy": b""}, "has a member 'images' that is no array"),
        ({"images.npy": b"junk", "labels.npy": b"junk"}, "is damaged or no .npz file (the array 'images': "),
        ({"images.npy": header((6, 8, 8)), "labels.npy": b""}, "its header says 384 bytes, the archive holds 0"),
        ({"images.npy": header((10**9, 10**9, 3)), "labels.npy": b""}, "its header says 3,000,000,000,000,000,000"),
        ({"images.npy": b"\x93NUMPY\x01\x00\x10\x00{'descr': open(", "labels.npy": b""}, "is damaged or no .npz file"),
        ({}, "has the arrays none; say which"),
    ],
)
def test_members_that_are_not_arrays_are_reported(
    refused: Callable[..., str], tmp_path: Path, members: dict[str, bytes], message: str
) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    assert message in refused()


def test_an_array_larger_than_memory_is_rejected_before_reading(
    refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, images=np.zeros((2**11, 1, 32, 32), np.uint8), labels=np.zeros(2**11, np.int64))
    monkeypatch.setattr("advbench_datasets.npz_archive._memory", lambda: 2**20)
    assert "has an array 'images' of 0.0 GiB; this machine has 0.0 GiB of memory: save fewer images" in refused()


def test_a_damaged_or_truncated_file_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    save(tmp_path, images=PIXELS, labels=LABELS)
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[: len(whole) // 2])
    assert "is damaged or no .npz file (File is not a zip file)" in refused()
    changed = bytearray(whole)
    changed[400] ^= 255
    (tmp_path / "d.npz").write_bytes(changed)
    assert "is damaged or no .npz file (the array 'images': Bad CRC-32" in refused()
