"""ImageNet's validation set: labels by synset, RobustBench's subset, and images that are decoded once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from advbench.api import DataError, DataSources, ParameterError
from advbench_datasets import decoded_images as decoding
from advbench_datasets import imagenet as imagenet_module
from advbench_datasets.image_files import ReadOptions
from advbench_datasets.imagenet import ImageNet, robustbench_places
from advbench_datasets.imagenet_classes import imagenet_class_names, imagenet_synsets

SYNSETS = ("n01440764", "n02105855", "n15075141")
LABELS = (0, 230, 999)


@pytest.fixture
def val(tmp_path: Path) -> Path:
    """Three classes of two photographs, 40 pixels high and 60 wide."""
    noise = np.random.default_rng(0)
    number = 0
    for synset in reversed(SYNSETS):
        folder = tmp_path / "imagenet" / "val" / synset
        folder.mkdir(parents=True)
        for _ in range(2):
            number += 1
            pixels = noise.integers(0, 256, (40, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"ILSVRC2012_val_{number:08d}.JPEG", quality=95)
    return tmp_path / "imagenet" / "val"


@pytest.fixture
def dataset(val: Path) -> ImageNet:
    return ImageNet(root=str(val), subset="all", resize=32, crop=24)


@pytest.fixture(autouse=True)
def nothing_cached_in_this_process() -> None:
    decoding._read.cache_clear()


def test_labels_follow_the_sorted_synsets_though_folders_are_missing(dataset: ImageNet, sources: DataSources) -> None:
    assert dataset.load(sources).labels.tolist() == [label for label in LABELS for _ in range(2)]
    assert list(dataset.ids()) == [0, 1, 2, 3, 4, 5]
    assert [dataset.class_names[label] for label in LABELS] == ["tench", "Shetland sheepdog", "toilet tissue"]


def test_the_synsets_are_those_of_ilsvrc_2012() -> None:
    text = "\n".join(imagenet_synsets())
    assert hashlib.sha256(text.encode()).hexdigest().startswith("385e0240499426c0")
    assert list(imagenet_synsets()) == sorted(set(imagenet_synsets()))
    assert len(imagenet_synsets()) == len(imagenet_class_names()) == 1000


def test_images_are_resized_and_cropped_as_torchvision_does(val: Path, dataset: ImageNet, sources: DataSources) -> None:
    steps = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(24), transforms.PILToTensor()])
    files = sorted(val.glob("*/*.JPEG"))
    expected = torch.stack([steps(Image.open(file)) for file in files])
    data = dataset.load(sources)
    assert torch.equal(data.images, expected)
    assert data.images.shape[1:] == dataset.image_shape == (3, 24, 24)


def test_the_parent_of_val_will_do(val: Path, dataset: ImageNet, sources: DataSources) -> None:
    parent = dataclasses.replace(dataset, root=str(val.parent))
    assert parent.digest(sources) == dataset.digest(sources)
    assert parent.location(sources) == str(val)


# RobustBench's subset


def test_the_subset_is_robustbenchs() -> None:
    """The classes of the first and the last of its 5,000 images, in the order of the files."""
    places = robustbench_places()
    assert len(places) == len(set(places)) == 5_000
    assert list(places) == sorted(places)
    per_class = np.bincount(np.array(places) // 50, minlength=1000)
    # As in the list that RobustBench publishes.
    assert np.bincount(per_class[per_class > 0]).tolist() == [0, 37, 79, 142, 153, 182, 176, 115, 63, 23, 15, 9, 3]


def test_a_torch_that_draws_other_numbers_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet_module, "_SUBSET_DIGEST", "0" * 64)
    with pytest.raises(DataError, match="draws other numbers"):
        robustbench_places.__wrapped__()


def test_the_subset_needs_all_files(val: Path) -> None:
    with pytest.raises(DataError, match=r"has 6 images, and subset=robustbench is a selection of all 50,000"):
        ImageNet(root=str(val)).ids()


def test_the_subset_takes_its_places_of_all_files(
    val: Path, sources: DataSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imagenet_module, "_IMAGES", 6)
    monkeypatch.setattr(imagenet_module, "robustbench_places", lambda: (1, 4))
    every = ImageNet(root=str(val), subset="all", resize=32, crop=24).load(sources)
    few = ImageNet(root=str(val), resize=32, crop=24).load(sources)
    assert few.ids.tolist() == [1, 4]
    assert few.labels.tolist() == [0, 999]
    assert torch.equal(few.images, every.images[[1, 4]])


# Images that are decoded once


def test_images_are_decoded_once_and_mapped(
    dataset: ImageNet, online: DataSources, announced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = dataset.load(online)
    decoding._read.cache_clear()
    monkeypatch.setattr(decoding, "_digest_of_pixels", lambda path: pytest.fail("read as a whole"))
    monkeypatch.setattr(ReadOptions, "pixels", lambda self, file: pytest.fail("decoded again"))
    again = dataset.load(online)
    assert torch.equal(first.images, again.images)
    assert dataset.digest(online) == dataset.digest(dataclasses.replace(online, data_dir=Path("elsewhere")))
    assert len(announced) == 1
    assert announced[0].startswith("decoding 6 images of imagenet; later runs read them from")
    assert again.images.dtype == torch.uint8
    again.images[0] = 0  # copy-on-write
    decoding._read.cache_clear()
    assert torch.equal(dataset.load(online).images, first.images)


def test_a_changed_file_is_decoded_again(val: Path, dataset: ImageNet, online: DataSources) -> None:
    before = dataset.digest(online)
    file = val / SYNSETS[1] / "ILSVRC2012_val_00000003.JPEG"
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(file)
    os.utime(file, (1, 1))
    assert dataset.digest(online) != before
    assert int(dataset.load(online).images[2].max()) == 0


@pytest.mark.parametrize("change", ["copied", "of an earlier version"])
def test_pixels_in_a_file_of_unknown_state_are_verified_once(
    change: str, dataset: ImageNet, online: DataSources, announced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = dataset.digest(online)
    (pixels,) = online.cache_dir.glob("imagenet-*.npy")
    record = pixels.with_suffix(".json")
    if change == "copied":
        os.utime(pixels, (1, 1))
    else:
        record.write_text(json.dumps({"sha256": json.loads(record.read_text())["sha256"]}))
    read, whole = [], decoding._digest_of_pixels
    monkeypatch.setattr(decoding, "_digest_of_pixels", lambda path: (read.append(path), whole(path))[1])
    for _ in range(3):
        decoding._read.cache_clear()
        assert dataset.digest(online) == digest
    assert read == [pixels]
    assert len(announced) == 1


@pytest.mark.parametrize("damage", ["altered", "cut short", "no digest"])
def test_a_damaged_file_of_pixels_is_made_again(
    damage: str, dataset: ImageNet, online: DataSources, announced: list[str]
) -> None:
    digest = dataset.digest(online)
    (pixels,) = online.cache_dir.glob("imagenet-*.npy")
    content = pixels.read_bytes()
    if damage == "altered":
        pixels.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(pixels, (2, 2))
    elif damage == "cut short":
        pixels.write_bytes(content[:-1])
    else:
        pixels.with_suffix(".json").unlink()
    decoding._read.cache_clear()
    assert dataset.digest(online) == digest
    assert len(announced) == 2
    assert pixels.read_bytes() == content


def test_an_unreadable_image_is_named_and_nothing_is_kept(val: Path, dataset: ImageNet, online: DataSources) -> None:
    (val / SYNSETS[2] / "ILSVRC2012_val_00000002.JPEG").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"val_00000002.JPEG cannot be read as an image"):
        dataset.load(online)
    assert list(online.cache_dir.rglob("*")) == []


# What is not ImageNet


def test_a_missing_folder_is_reported_with_the_way_to_get_it(tmp_path: Path, sources: DataSources) -> None:
    dataset = ImageNet(root=str(tmp_path / "nowhere"))
    assert dataset.location(sources) is None
    with pytest.raises(DataError, match=r"nowhere: no such folder; .*torchvision.datasets.ImageNet\('DIR', 'val'\)"):
        dataset.load(sources)


def test_folders_of_other_names_are_rejected(val: Path, dataset: ImageNet, sources: DataSources) -> None:
    (val / "goldfish").mkdir()
    with pytest.raises(DataError, match="has the folder 'goldfish'; expected one per class, such as n01440764"):
        dataset.load(sources)


def test_images_without_class_folders_are_rejected(tmp_path: Path, sources: DataSources) -> None:
    (tmp_path / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(DataError, match="has no folders; expected one per class"):
        ImageNet(root=str(tmp_path)).load(sources)


def test_a_crop_that_is_larger_than_the_image_is_rejected() -> None:
    with pytest.raises(ParameterError, match="crop=299: is larger than resize=256"):
        ImageNet(root=".", crop=299)
