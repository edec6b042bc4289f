"""torchvision's other datasets, in the folders in which torchvision keeps them."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from advbench.api import DataError, DataSources, ParameterError
from advbench_datasets import torchvision_dataset
from advbench_datasets.torchvision_dataset import TorchvisionDataset

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def eurosat(tmp_path: Path) -> Path:
    """Two classes of two images; the class has one part."""
    return save(tmp_path, "eurosat/2750", ("Forest", "River"))


@pytest.fixture
def sst2(tmp_path: Path) -> Path:
    """The same, of a class with the argument ``split``."""
    return save(tmp_path, "rendered-sst2/test", ("negative", "positive"))


def save(root: Path, folder: str, classes: tuple[str, str]) -> Path:
    for index, pixels in enumerate(PIXELS):
        file = root / folder / classes[index // 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    return root


@pytest.mark.parametrize("kind", ["EuroSAT", "RenderedSST2"])
def test_images_labels_and_names_are_torchvisions(kind: str, eurosat: Path, sst2: Path, sources: DataSources) -> None:
    dataset = TorchvisionDataset(dataset=kind, root=str(eurosat))
    data = dataset.load(sources)
    assert np.array_equal(data.images.numpy(), PIXELS.transpose(0, 3, 1, 2))
    assert data.labels.tolist() == [0, 0, 1, 1]
    assert data.ids.tolist() == list(dataset.ids())
    assert (dataset.image_shape, dataset.num_classes) == ((3, 8, 8), 2)
    assert dataset.class_names == (("Forest", "River") if kind == "EuroSAT" else ("negative", "positive"))


def test_images_of_different_sizes_need_a_size(eurosat: Path, sources: DataSources) -> None:
    Image.fromarray(PIXELS[0][:6]).save(eurosat / "eurosat" / "2750" / "River" / "2.png")
    dataset = TorchvisionDataset(dataset="EuroSAT", root=str(eurosat))
    with pytest.raises(DataError, match=r"EuroSAT\[2\] has 8 x 6 pixels, the images before it 8 x 8; give size=N"):
        dataset.load(sources)
    sized = TorchvisionDataset(dataset="EuroSAT", root=str(eurosat), size=5, mode="grey")
    assert sized.load(sources).images.shape == (4, 1, 5, 5)


def test_missing_data_is_reported_with_the_call_that_downloads_it(tmp_path: Path) -> None:
    call = rf"torchvision.datasets.SVHN\('{tmp_path}', split='test', download=True\) downloads it"
    with pytest.raises(DataError, match=f"SVHN in {tmp_path}: .*not found.*; {call}"):
        TorchvisionDataset(dataset="SVHN", root=str(tmp_path)).read()
    with pytest.raises(DataError, match=r"nowhere: no such folder; torchvision.datasets.KMNIST\(.*, train=False, "):
        TorchvisionDataset(dataset="KMNIST", root=str(tmp_path / "nowhere")).read()


@pytest.mark.parametrize("kind", ["FER2013", "LFWPeople", "StanfordCars"])
def test_for_datasets_that_torchvision_does_not_download_its_documentation_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"; see torchvision's documentation of {kind} for how to get it$"):
        TorchvisionDataset(dataset=kind, root=str(tmp_path), split="test").read()
    with pytest.raises(DataError, match=f"no such folder; see torchvision's documentation of {kind}"):
        TorchvisionDataset(dataset=kind, root=str(tmp_path / "nowhere")).read()


@pytest.mark.parametrize("kind", ["SVHN", "Places365", "FER2013"])
def test_a_wrong_part_is_reported_without_a_call_that_downloads(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Unknown value 'tst' for argument split\. Valid values are .*; give split=…$"):
        TorchvisionDataset(dataset=kind, root=str(tmp_path), split="tst").read()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dataset": "CIFAR10"}, "advbench has it as cifar10"),
        ({"dataset": "Flower102"}, "did you mean 'Flowers102'"),
        ({"dataset": "CocoDetection"}, "no such dataset of labelled images; there are: Caltech101, "),
        ({"dataset": "KMNIST", "split": "val"}, "split=val: KMNIST needs train or test"),
        ({"dataset": "EMNIST", "split": "test"}, "split=test: EMNIST needs a split such as letters/test"),
        ({"dataset": "STL10", "split": "unlabeled"}, "split=unlabeled: STL10 has no labels for all of its images"),
        ({"dataset": "STL10", "split": "train+unlabeled"}, r"split=train\+unlabeled: STL10 has no labels"),
    ],
)
def test_other_datasets_and_parts_are_rejected(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        TorchvisionDataset(root=".", **parameters)


def test_the_arguments_are_those_that_torchvisions_classes_take() -> None:
    for name in torchvision_dataset._NAMES:
        split = "letters/test" if name == "EMNIST" else "test"
        arguments = torchvision_dataset._arguments(name, split)
        taken = inspect.signature(getattr(datasets, name)).parameters
        assert {"root", *arguments} <= set(taken) | ({"train"} if "kwargs" in taken else set()), name
        assert ("split" in taken) == ("split" in arguments), name
    assert torchvision_dataset._arguments("EMNIST", "letters/train") == {"train": True, "split": "letters"}


def test_a_file_that_changes_in_place_is_read_again(eurosat: Path, sources: DataSources) -> None:
    dataset = TorchvisionDataset(dataset="EuroSAT", root=str(eurosat))
    before = dataset.digest(sources)
    assert dataset.digest(sources) == before
    Image.fromarray(255 - PIXELS[0]).save(eurosat / "eurosat" / "2750" / "Forest" / "0.png")
    assert np.array_equal(dataset.load(sources).images[0].numpy(), 255 - PIXELS[0].transpose(2, 0, 1))
    assert dataset.digest(sources) != before
    (eurosat / "eurosat" / "again").symlink_to(eurosat)  # links in a circle are followed once
    assert len(dataset.load(sources).images) == 4
