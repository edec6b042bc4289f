"""Images of the user's own: in a folder a class, or as arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from advbench.api import DataError, DataSources
from advbench.discovery.loading import discover
from advbench.specs import resolve_one

pytestmark = pytest.mark.slow

SOURCES = DataSources(Path("nowhere"))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


def build(spec: str) -> Any:
    return resolve_one(discover(), "datasets", spec)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, pixels in enumerate(PIXELS):
        file = tmp_path / "images" / ("cat", "dog", "eel")[index // 2] / f"{index}.{'png' if index % 2 else 'BMP'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    (tmp_path / "images" / "cat" / "notes.txt").write_text("no image")
    return tmp_path / "images"


def test_a_folder_is_read_by_class_and_name(folder: Path) -> None:
    dataset = build(f"image-folder:path={folder}")
    data = dataset.load(SOURCES)
    assert (dataset.image_shape, dataset.num_classes, list(dataset.ids())) == ((3, 8, 8), 3, list(range(6)))
    assert torch.equal(data.images, torch.from_numpy(PIXELS.transpose(0, 3, 1, 2)))
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    grey = build(f"image-folder:path={folder},mode=grey").load(SOURCES).images
    assert grey.shape == (6, 1, 8, 8)
    assert torch.equal(grey[0, 0], torch.from_numpy(np.array(Image.fromarray(PIXELS[0]).convert("L"))))


def test_images_of_different_sizes_are_resized_to_one(folder: Path) -> None:
    wide = Image.fromarray(np.full((10, 30, 3), 200, dtype=np.uint8))
    wide.save(folder / "dog" / "wide.png")
    with pytest.raises(DataError, match=r"wide\.png has 30 x 10 pixels, the files before it 8 x 8; give size=N"):
        build(f"image-folder:path={folder}").load(SOURCES)
    data = build(f"image-folder:path={folder},size=4").load(SOURCES)
    assert data.images.shape == (7, 3, 4, 4)
    assert (data.images[4] == 200).all()


def test_a_changed_file_changes_the_digest(folder: Path) -> None:
    before = build(f"image-folder:path={folder}").digest(SOURCES)
    assert build(f"image-folder:path={folder}").digest(SOURCES) == before
    Image.fromarray(255 - PIXELS[0]).save(folder / "cat" / "0.BMP")
    assert build(f"image-folder:path={folder}").digest(SOURCES) != before


def test_images_of_16_bits_keep_their_greys(folder: Path) -> None:
    greys = np.array([[0, 257, 25700, 65535]] * 4, dtype=np.uint16)
    Image.fromarray(greys).save(folder / "cat" / "deep.png")
    data = build(f"image-folder:path={folder},size=4,mode=grey").load(SOURCES)
    assert data.images[2, 0, 0].tolist() == [0, 1, 100, 255]


def test_hidden_files_are_not_samples(folder: Path) -> None:
    copies = folder / "cat" / ".ipynb_checkpoints"
    copies.mkdir()
    Image.fromarray(PIXELS[0]).save(copies / "0-checkpoint.png")
    (folder / "dog" / "._2.png").write_bytes(b"\0\5\26\7")
    assert len(build(f"image-folder:path={folder}").load(SOURCES)) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: folder / "none", "no such folder"),
        (lambda folder: folder / "cat", "has 0 folders; expected one per class, at least two"),
        (lambda folder: (folder / "cat" / "0.BMP").write_bytes(b"BM") and folder, "0.BMP cannot be read as an image"),
        (lambda folder: [f.unlink() for f in folder.rglob("*.*")] and folder, "hold no image files"),
        (
            lambda folder: Image.fromarray(np.ones((8, 8), np.float32)).save(folder / "cat" / "f.tif") or folder,
            "f.tif has 32-bit pixels, whose white value is unknown; save 8 or 16 bits",
        ),
    ],
)
def test_unusable_folders_are_reported(
    call: Callable[..., Any], folder: Path, change: Callable[[Path], Path], message: str
) -> None:
    called = call("matrix", "--datasets", f"image-folder:path={change(folder)}", "--models", "mnist-cnn")
    assert called.code == 2
    assert message in called.error_line()
    assert called.error_line().startswith("advbench matrix: error: image-folder: ")


@pytest.mark.parametrize(
    ("arrays", "shape"),
    [
        ({"images": PIXELS, "labels": np.arange(6)}, (3, 8, 8)),
        ({"x": PIXELS.transpose(0, 3, 1, 2), "y": np.arange(6)[:, None]}, (3, 8, 8)),
        ({"x_train": PIXELS, "y_train": np.arange(6), "x_test": PIXELS[..., 0], "y_test": np.arange(6)}, (1, 8, 8)),
        ({"data": PIXELS / 255, "labels": np.arange(6, dtype=np.uint8)}, (3, 8, 8)),
    ],
)
def test_usual_forms_of_arrays_are_read(tmp_path: Path, arrays: dict[str, Any], shape: tuple[int, int, int]) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    dataset = build(f"npz:path={tmp_path / 'd.npz'}")
    data = dataset.load(SOURCES)
    assert (dataset.image_shape, dataset.num_classes) == (shape, 6)
    expected = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2)[:, : shape[0]]) / 255
    assert torch.allclose(data.take(range(6))[0], expected, atol=1e-6)
    assert data.labels.tolist() == list(range(6))


def test_keys_and_number_of_classes_can_be_given(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", a=PIXELS, b=np.arange(6))
    dataset = build(f"npz:path={tmp_path / 'd.npz'},images=a,labels=b,classes=10")
    assert dataset.num_classes == 10
    assert len(dataset.load(SOURCES)) == 6


@pytest.mark.parametrize(
    ("arrays", "more", "message"),
    [
        ({"a": PIXELS, "b": np.arange(6)}, "", "has the arrays a, b; say which: images=KEY,labels=KEY"),
        ({"a": PIXELS, "b": np.arange(6)}, ",images=a,labels=c", "has no array 'c'; it has a, b"),
        ({"images": PIXELS, "labels": np.arange(6)}, ",images=a", "give both keys, or neither"),
        ({"images": PIXELS, "labels": np.arange(6)}, ",classes=3", "has the label 5; classes=3"),
        ({"images": PIXELS, "labels": np.arange(5)}, "", "has 6 images and 5 labels"),
        ({"images": PIXELS * 0.999, "labels": np.arange(6)}, "", "expected [0, 1]: divide by the value of white"),
        ({"images": PIXELS // 16, "labels": np.arange(6), "x": PIXELS}, ",images=y,labels=labels", "has no array 'y'"),
        ({"images": PIXELS, "labels": np.arange(6) / 2}, "", "expected whole numbers from 0"),
        ({"images": PIXELS[:, :3], "labels": np.arange(6)}, "", "where axis 1 or 3 may be the channels"),
        ({"images": np.array([{}] * 6), "labels": np.arange(6)}, "", "of pickled objects, which could run code"),
    ],
)
def test_unusable_arrays_are_reported(
    call: Callable[..., Any], tmp_path: Path, arrays: dict[str, Any], more: str, message: str
) -> None:
    np.savez(tmp_path / "d.npz", **arrays)
    called = call("matrix", "--datasets", f"npz:path={tmp_path / 'd.npz'}{more}", "--models", "mnist-cnn")
    assert called.code == 2
    assert message in called.error_line()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut off", b"\x93NUMPY\x01\x00"])
def test_other_files_are_reported(call: Callable[..., Any], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    called = call("matrix", "--datasets", f"npz:path={tmp_path / 'd.npz'}", "--models", "mnist-cnn")
    assert called.code == 2
    assert "d.npz is damaged or no .npz file" in called.error_line()


@pytest.mark.usefixtures("quick_workers")
def test_own_images_work_in_worker_processes(call: Callable[..., Any], tmp_path: Path) -> None:
    images = np.random.default_rng(1).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(12) % 10)
    axes = ("--datasets", f"npz:path={tmp_path / 'd.npz'}", "--models", "mnist-cnn", "--attacks", "fgsm")
    called = call("matrix", *axes, "--defenses", "none", "jpeg", "--jobs", 2, "--store", tmp_path / "store")
    assert called.code == 0, called.err
    assert "n = 12" in called.out


def test_a_single_array_is_rejected(call: Callable[..., Any], tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", PIXELS)
    called = call("matrix", "--datasets", f"npz:path={tmp_path / 'd.npy'}", "--models", "mnist-cnn")
    assert "is a single array; save images and labels with numpy.savez" in called.error_line()
