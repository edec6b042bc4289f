"""CelebA: an attribute of faces makes two classes."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from advbench.api import DataError, DataSources, ParameterError
from advbench_datasets import celeba
from advbench_datasets.celeba import ATTRIBUTES, SPLITS, CelebA

SMILING, YOUNG = (0, 1, 1, 0, 1), (1, 1, 0, 0, 1)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five faces in CelebA's form, three of them for training."""
    folder = tmp_path / "data" / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    noise = np.random.default_rng(0)
    lines = ["5", " ".join(ATTRIBUTES) + " "]
    for index in range(5):
        name = f"{index + 1:06d}.jpg"
        Image.fromarray(noise.integers(0, 256, (218, 178, 3), dtype=np.uint8)).save(folder / "img_align_celeba" / name)
        values = {"Smiling": SMILING[index], "Young": YOUNG[index]}
        lines.append(f"{name} " + " ".join(f"{2 * values.get(attribute, 0) - 1:2d}" for attribute in ATTRIBUTES))
    content = ("\n".join(lines) + "\n").encode()
    (folder / "list_attr_celeba.txt").write_bytes(content)
    monkeypatch.setitem(celeba.DIGESTS, "list_attr_celeba.txt", hashlib.md5(content).hexdigest())
    for split, ids in {"train": range(3), "valid": range(3, 4), "test": range(4, 5), "all": range(5)}.items():
        monkeypatch.setitem(celeba.SPLITS, split, ids)
    return folder


@pytest.fixture
def given(files: Path, sources: DataSources) -> DataSources:
    return dataclasses.replace(sources, data_dir=files.parent)


def test_an_attribute_makes_two_classes(given: DataSources) -> None:
    for attribute, values, name in (("Smiling", SMILING, "smiling"), ("Young", YOUNG, "young")):
        dataset = CelebA(attribute=attribute, split="all")
        assert dataset.load(given).labels.tolist() == list(values)
        assert dataset.class_names == (f"not {name}", name)
    assert CelebA(attribute="Wearing_Hat").class_names == ("not wearing hat", "wearing hat")
    assert CelebA(attribute="Smiling").digest(given) != CelebA(attribute="Young", split="all").digest(given)


def test_a_face_has_the_same_id_in_every_split(given: DataSources) -> None:
    every = CelebA(split="all").load(given)
    for split, ids in (("train", [0, 1, 2]), ("valid", [3]), ("test", [4])):
        part = CelebA(split=split).load(given)
        assert part.ids.tolist() == list(CelebA(split=split).ids()) == ids
        assert torch.equal(part.images, every.images[ids])
        assert torch.equal(part.labels, every.labels[ids])


def test_faces_are_resized_and_cropped_as_torchvision_does(files: Path, given: DataSources) -> None:
    steps = transforms.Compose([transforms.Resize(48), transforms.CenterCrop(48), transforms.PILToTensor()])
    data = CelebA(split="all", size=48, root=str(files)).load(given)
    expected = torch.stack([steps(Image.open(file)) for file in sorted((files / "img_align_celeba").iterdir())])
    assert torch.equal(data.images, expected)


def test_the_splits_are_those_of_the_authors() -> None:
    assert {name: len(ids) for name, ids in SPLITS.items()} == {
        "train": 162_770, "valid": 19_867, "test": 19_962, "all": 202_599,
    }  # fmt: skip
    assert len(set(ATTRIBUTES)) == 40
    with pytest.raises(ParameterError, match="attribute"):
        CelebA(attribute="smiling")


def test_missing_files_are_reported_with_the_way_to_get_them(
    sources: DataSources, tmp_path: Path, files: Path, given: DataSources
) -> None:
    for dataset, where in (
        (CelebA(), "neither root nor --data-dir is given"),
        (CelebA(root=str(tmp_path)), f"{tmp_path} has no list_attr_celeba.txt"),
    ):
        assert dataset.location(sources) is None
        with pytest.raises(DataError, match=f"{where}: torchvision.datasets.CelebA"):
            dataset.load(sources)
    (files / "img_align_celeba" / "000005.jpg").unlink()
    with pytest.raises(DataError, match=r"000005.jpg cannot be read"):
        CelebA().load(given)


def test_another_table_of_attributes_is_rejected(files: Path, given: DataSources) -> None:
    celeba._labels.cache_clear()
    table = files / "list_attr_celeba.txt"
    table.write_text(table.read_text().replace(" 1", "-1", 1))
    with pytest.raises(DataError, match=r"list_attr_celeba.txt is not CelebA's: its MD5 differs"):
        CelebA().load(given)
