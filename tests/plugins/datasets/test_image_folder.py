"""Image folders as they lie on people's disks: which files count, which ids classes have, how files become pixels."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from advbench.api import DataSources, ParameterError
from advbench.discovery.loading import discover
from advbench.specs import resolve_one

pytestmark = pytest.mark.slow

SOURCES = DataSources(Path("nowhere"))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 20, 30, 3), dtype=np.uint8)

NET = """
import torch
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1800, 3))
"""


def build(spec: str) -> Any:
    return resolve_one(discover(), "datasets", spec)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of two images, 20 pixels high and 30 wide."""
    for index, pixels in enumerate(PIXELS):
        file = tmp_path / "photos" / ("cat", "dog", "eel")[index // 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return tmp_path / "photos"


@pytest.fixture
def refused(call: Callable[..., Any], folder: Path) -> Callable[..., str]:
    """Sees the folder refused by the command line, and returns its one line."""

    def error_message(more: str = "") -> str:
        called = call("matrix", "--datasets", f"image-folder:path={folder}{more}", "--models", "mnist-cnn")
        assert called.code == 2
        line: str = called.error_line()
        return line

    return error_message


def one_of(folder: Path, name: str, more: str = "") -> torch.Tensor:
    """The image that has been added to the first class under a name that comes last."""
    data = build(f"image-folder:path={folder}{more}").load(SOURCES)
    assert (folder / "cat" / name).exists()
    assert len(data) == 7
    image: torch.Tensor = data.images[2]
    return image


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_system_files_and_folders_are_neither_classes_nor_samples(folder: Path) -> None:
    for file in ("__MACOSX/cat/._0.png", "dog/__MACOSX/._2.png", "cat/.hidden.png", ".git/cat/x.png", "@eaDir/a.png"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"\0\5\26\7")
    for file in (".DS_Store", "cat/Thumbs.db", "cat/desktop.ini", "dog/._2.png"):
        (folder / file).write_bytes(b"\0\5\26\7")
    (folder / "README.md").write_text("")
    (folder / "eel" / "notes\x1b.txt").write_text("")
    dataset = build(f"image-folder:path={folder}")
    assert dataset.load(SOURCES).labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.class_names == ("cat", "dog", "eel")
    (note,) = dataset.notes()
    assert "skipped hidden files and files that are not images: .git/, @eaDir/, README.md … (7 in all)" in note


def test_skipped_files_are_reported_once_and_in_the_results(
    call: Callable[..., Any], folder: Path, tmp_path: Path
) -> None:
    (folder / "cat" / "a.txt").write_text("")
    (folder / "net.py").write_text(NET)
    words = ["--datasets", f"image-folder:path={folder}", "--models", f"torch-module:build={folder / 'net.py'}:net"]
    words += ["--attacks", "noise", "--defenses", "none", "--store", tmp_path / "store", "--seeds", 0, 1]
    called = call("matrix", *words, "--export", tmp_path / "r.json", "--export", tmp_path / "r.html")
    assert called.code == 0, called.err
    assert called.err.count("skipped hidden files and files that are not images: net.py, cat/a.txt") == 1
    run = json.loads((tmp_path / "r.json").read_text())["run"]
    ((spec, notes),) = run["dataset_notes"].items()
    assert run["class_names"] == {spec: ["cat", "dog", "eel"]}
    assert "net.py, cat/a.txt" in notes[0]
    assert "net.py, cat/a.txt" in (tmp_path / "r.html").read_text()


def test_images_in_subfolders_of_a_class_are_samples(folder: Path) -> None:
    (folder / "cat" / "a" / "b").mkdir(parents=True)
    Image.fromarray(PIXELS[5]).save(folder / "cat" / "a" / "b" / "9.png")
    assert build(f"image-folder:path={folder}").load(SOURCES).labels.tolist() == [0, 0, 0, 1, 1, 2, 2]


def test_a_class_without_images_still_has_an_id(folder: Path) -> None:
    (folder / "cow").mkdir()
    (folder / "cow" / "x.json").write_text("")
    dataset = build(f"image-folder:path={folder}")
    assert dataset.load(SOURCES).labels.tolist() == [0, 0, 2, 2, 3, 3]
    assert dataset.num_classes == 4
    assert "no images in cow/, which still counts as a class; remove it if it is none" in dataset.notes()[0]


def test_a_class_list_keeps_class_ids_in_a_subset(folder: Path, tmp_path: Path) -> None:
    (folder / "empty").mkdir()
    listed = tmp_path / "classes.txt"
    listed.write_text("\ufeffant\r\ndog\r\nbee\r\ncat\r\neel\r\nfox\r\n", "utf-8")
    dataset = build(f"image-folder:path={folder},classes={listed}")
    assert dataset.load(SOURCES).labels.tolist() == [1, 1, 3, 3, 4, 4]
    assert dataset.num_classes == 6
    assert dataset.class_names == ("ant", "dog", "bee", "cat", "eel", "fox")
    assert dataset.notes() == ()
    assert np.array_equal(dataset.load(SOURCES).images[0], PIXELS[2].transpose(2, 0, 1))
    listed.write_text("ant x\ndog house dog, hound\ncat\neel  river eel\n")
    dataset = build(f"image-folder:path={folder},classes={listed}")
    assert dataset.class_names == ("x", "house dog, hound", "cat", "river eel")
    assert dataset.load(SOURCES).labels.tolist() == [1, 1, 2, 2, 3, 3]


def test_folders_can_be_named_by_class_ids(folder: Path) -> None:
    for name, number in (("cat", "281"), ("dog", "0999"), ("eel", "0")):
        (folder / name).rename(folder / number)
    dataset = build(f"image-folder:path={folder},classes=1000")
    assert dataset.load(SOURCES).labels.tolist() == [0, 0, 281, 281, 999, 999]
    assert (dataset.num_classes, dataset.class_names) == (1000, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory; give a number or a text file"),
        (b"\xff\xfe", "cannot be read: no UTF-8 text; give a number or a text file"),
        (b"cat\ndog\n", "has eel, not in classes="),
        (b"cat\n\ndog\neel\n", ": line 2 is empty; a line's number is the class id"),
        (b"cat\ndog\neel\ncat\n", "has 'cat' twice"),
        (b"", ": line 1 is empty"),
    ],
)
def test_unusable_class_lists_are_reported(
    refused: Callable[..., str], tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "c.txt").write_bytes(content)
    assert message in refused(f",classes={tmp_path / 'c.txt'}")


def test_folders_not_named_by_class_ids_are_reported(refused: Callable[..., str], folder: Path) -> None:
    assert "has the folder 'cat'; with classes=10 folders are named by class ids from 0 to 9" in refused(",classes=10")
    for name, number in (("cat", "01"), ("dog", "1"), ("eel", "0")):
        (folder / name).rename(folder / number)
    assert "has two folders for the class 1, '1' and another; join them" in refused(",classes=10")


@pytest.mark.parametrize(
    ("more", "transform"),
    [
        (",resize=12,interpolation=bilinear", [transforms.Resize(12)]),
        (",resize=12x15,interpolation=bilinear", [transforms.Resize((12, 15))]),
        (",crop=9", [transforms.CenterCrop(9)]),
        (",resize=13,crop=10x15,interpolation=bilinear", [transforms.Resize(13), transforms.CenterCrop((10, 15))]),
        (
            ",resize=25,crop=20",
            [transforms.Resize(25, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(20)],
        ),
        (",size=8", [transforms.Resize((8, 12), transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(8)]),
    ],
)
def test_images_are_resized_and_cropped_as_in_torchvision(folder: Path, more: str, transform: Any) -> None:
    composed = transforms.Compose([*transform, transforms.PILToTensor()])
    expected = torch.stack([composed(Image.fromarray(pixels)) for pixels in PIXELS])
    assert torch.equal(build(f"image-folder:path={folder}{more}").load(SOURCES).images, expected)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("crop=24", "crop=24 is larger than .*0.png, which has 20x30 pixels .height x width. as it is; give resize=N"),
        ("resize=20,crop=20x31", "crop=20x31 is larger than .*0.png, which has 20x30 pixels .height x width. after"),
        ("resize=20,crop=24", "crop=24: is larger than resize=20"),
        ("resize=16x40,crop=16x41", "crop=16x41: is larger than resize=16x40"),
        ("resize=0", "resize=0: must be pixels such as 224, or HEIGHTxWIDTH such as 224x320"),
        ("crop=3x", "crop=3x: must be pixels"),
        ("resize=1e3", "resize=1e3: must be pixels"),
        ("size=8,crop=8", "size: scales and crops in one; give size alone, or resize and crop"),
        ("interpolation=cubic", "interpolation=cubic: must be one of nearest, box, bilinear"),
        ("classes=1", "classes=1: must be at least 2, or a text file"),
    ],
)
def test_inconsistent_sizes_are_reported(refused: Callable[..., str], more: str, message: str) -> None:
    assert re.search(message, refused(f",{more}"))


def test_a_crop_may_exceed_the_shorter_side_on_the_other(folder: Path) -> None:
    assert build(f"image-folder:path={folder},resize=16,crop=16x20").image_shape == (3, 16, 20)
    with pytest.raises(ParameterError, match="crop=17x20: is larger than resize=16"):
        build(f"image-folder:path={folder},resize=16,crop=17x20")


def test_exif_orientation_is_applied(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees to be looked at
    upright = Image.fromarray(PIXELS[0])
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "cat" / "z.png", exif=exif)
    assert np.array_equal(one_of(folder, "z.png"), PIXELS[0].transpose(2, 0, 1))
    deep = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    Image.fromarray(np.rot90(deep).copy()).save(folder / "cat" / "z.png", exif=exif)
    assert np.array_equal(one_of(folder, "z.png", ",mode=grey")[0], (deep.astype(int) + 128) // 257)


def test_grey_files_of_16_bits_are_reduced_to_8(folder: Path) -> None:
    deep = np.arange(600, dtype=np.uint16).reshape(20, 30) * 100
    (folder / "cat" / "z.pgm").write_bytes(b"P5\n30 20\n65535\n" + deep.astype(">u2").tobytes())
    assert np.array_equal(one_of(folder, "z.pgm", ",mode=grey")[0], (deep.astype(int) + 128) // 257)


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 1), (np.uint8, 15), (np.uint16, 255)])
def test_files_whose_white_is_not_the_brightest_value_are_refused(
    refused: Callable[..., str], folder: Path, dtype: type, white: int
) -> None:
    for file in folder.rglob("*.png"):
        file.unlink()
    mask = np.zeros((20, 30), dtype)
    mask[5:, 5:] = white
    for name in sorted(path for path in folder.iterdir() if path.is_dir()):
        Image.fromarray(mask).save(name / "mask.png")
    assert "so that the value of white is unknown" in refused("")


def test_transparent_pixels_are_blended_over_white(folder: Path) -> None:
    alpha = np.full((20, 30, 1), 255, np.uint8)
    alpha[:10] = 0
    expected = np.where(alpha == 0, 255, PIXELS[0])
    Image.fromarray(np.concatenate([PIXELS[0], alpha], axis=2)).save(folder / "cat" / "z.png")
    assert np.array_equal(one_of(folder, "z.png"), expected.transpose(2, 0, 1))
    palette = Image.fromarray((alpha[..., 0] // 255).astype(np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.save(folder / "cat" / "z.png", transparency=0)
    assert one_of(folder, "z.png")[:, [0, -1], 0].T.tolist() == [[255, 255, 255], [200, 100, 50]]


def test_the_first_frame_of_an_animation_is_read(folder: Path) -> None:
    frames = [Image.fromarray(pixels) for pixels in PIXELS[:3]]
    frames[0].save(folder / "cat" / "z.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(one_of(folder, "z.webp"), PIXELS[0].transpose(2, 0, 1))
    (folder / "cat" / "z.webp").unlink()
    two = [Image.fromarray(np.full((20, 30), value, np.uint8)) for value in (10, 200)]
    two[0].save(folder / "cat" / "z.GIF", save_all=True, append_images=two[1:])
    assert (one_of(folder, "z.GIF") == 10).all()


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "P", "1", "L"])
def test_other_colour_modes_are_converted(folder: Path, mode: str) -> None:
    given = Image.fromarray(PIXELS[0]).convert(mode)
    given.save(folder / "cat" / "z.tif")
    expected = np.asarray(given.convert("RGB")).transpose(2, 0, 1)
    assert np.abs(one_of(folder, "z.tif").int().numpy() - expected).max() <= 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "z.png cannot be read as an image (cannot identify image file"),
        (b"<html></html>", "z.png cannot be read as an image"),
        (b"\x89PNG\r\n\x1a\n", "z.png cannot be read as an image"),
        (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 1, 0, 0, 0, 0))
            + chunk(b"IDAT", b""),
            "z.png is too large to be an image for a benchmark (Image size (3600000000 pixels) exceeds limit",
        ),
    ],
)
def test_an_unreadable_file_is_named(refused: Callable[..., str], folder: Path, content: bytes, message: str) -> None:
    (folder / "cat" / "z.png").write_bytes(content)
    assert message in refused()


def test_a_broken_link_is_named(refused: Callable[..., str], folder: Path) -> None:
    (folder / "cat" / "z.png").symlink_to(folder / "gone.png")
    assert "cat/z.png cannot be read (No such file or directory); fix or remove it" in refused()


def test_a_truncated_file_is_named(refused: Callable[..., str], folder: Path) -> None:
    file = folder / "cat" / "0.png"
    file.write_bytes(file.read_bytes()[:300])
    assert "cat/0.png cannot be read as an image (image file is truncated" in refused()


def test_a_photograph_of_a_hundred_million_pixels_is_accepted(folder: Path) -> None:
    Image.new("1", (12000, 8000), 1).save(folder / "cat" / "z.png")
    assert (one_of(folder, "z.png", ",resize=4x6")).shape == (3, 4, 6)
