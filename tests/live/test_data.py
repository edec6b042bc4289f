"""Live data: arrays of common formats, and torch's loaders and datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.toy_plugin import Linear
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import advbench
from advbench.errors import UsageError

pytestmark = pytest.mark.slow

TOY = Path(__file__).parents[1] / "toy_plugin.py"
IMAGES = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(7))
LABELS = Linear(1.0)(IMAGES).argmax(dim=1)
LABELS[-1] = 2


class Pairs(Dataset[Any]):
    """Images by index, like a dataset of torchvision."""

    def __init__(self, transform: Callable[[torch.Tensor], Any] = lambda image: image) -> None:
        self.transform = transform
        self.classes = ["ant", "bee", "cow"]

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(IMAGES[index]), int(LABELS[index])


class Stream(IterableDataset[Any]):
    """An endless stream of images."""

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield IMAGES[0], 0


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], advbench.Results]:
    """Evaluates the toy model on data, with all built-in plugins disabled."""
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    where: dict[str, Any] = {"plugin": [TOY], "store": tmp_path / "store", "quiet": True}
    return lambda data: advbench.matrix(data, "toy-linear", "toy-sign", "toy-keep", **where)


def eight_bits(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image[0] * 255).round().to(torch.uint8).numpy())


def measured(results: advbench.Results) -> tuple[Any, ...]:
    (cell,) = results.data["cells"]
    return tuple(cell[key] for key in ("n", "clean_accuracy", "robust_accuracy", "median_linf"))


@pytest.mark.parametrize(
    "data",
    [
        TensorDataset(IMAGES, LABELS),
        DataLoader(TensorDataset(IMAGES, LABELS), batch_size=5),
        DataLoader(TensorDataset(IMAGES, LABELS), batch_size=5, shuffle=True),
        DataLoader(TensorDataset(IMAGES, LABELS), batch_size=None),
        DataLoader(Pairs(), batch_size=4),
        Pairs(),
        Pairs(lambda image: image.numpy().transpose(1, 2, 0)),
        Pairs(lambda image: image[0]),
        Subset(Pairs(), range(12)),
        [(image, int(label)) for image, label in zip(IMAGES, LABELS, strict=True)],
        tuple(zip(IMAGES.numpy(), LABELS.numpy(), strict=True)),
        (IMAGES.double().numpy(), LABELS.numpy()),
        (IMAGES.numpy().transpose(0, 2, 3, 1), LABELS.numpy()[:, None]),
        (IMAGES[:, 0], LABELS.double()),
        (IMAGES, torch.nn.functional.one_hot(LABELS)),
        (IMAGES.double() * 1.0000005 - 2e-7, LABELS),
        (IMAGES, LABELS.tolist()),
        (IMAGES.numpy(), tuple(LABELS)),
        [IMAGES, LABELS],
        (IMAGES, torch.nn.functional.one_hot(LABELS).tolist()),
        ([*IMAGES], LABELS.tolist()),
        ([*IMAGES.numpy()], LABELS.numpy()),
    ],
    ids=lambda data: type(data).__name__,
)
def test_data_of_every_common_format_gives_the_same_results(
    evaluate: Callable[[Any], advbench.Results], data: Any
) -> None:
    assert measured(evaluate(data)) == pytest.approx(measured(evaluate((IMAGES, LABELS))), abs=1e-5)


def test_8_bit_images_are_read_from_tensors_and_from_pillow(evaluate: Callable[[Any], advbench.Results]) -> None:
    levels = (IMAGES * 255).round()
    expected = measured(evaluate((levels.to(torch.uint8), LABELS)))
    pillow = [eight_bits(image) for image in IMAGES]
    for data in (
        Pairs(eight_bits),
        (pillow, LABELS.tolist()),
        (levels.to(torch.int64), LABELS),
        (levels.numpy(), LABELS.numpy()),
    ):
        assert measured(evaluate(data)) == expected


def test_a_loader_is_read_in_the_order_of_its_dataset(evaluate: Callable[[Any], advbench.Results]) -> None:
    shuffled = evaluate(DataLoader(TensorDataset(IMAGES, LABELS), batch_size=5, shuffle=True))
    adversarial = shuffled.adversarial()
    assert adversarial.labels.tolist() == LABELS.tolist()
    assert adversarial.ids.tolist() == list(range(12))


def test_results_are_reused_for_the_same_content(
    evaluate: Callable[[Any], advbench.Results], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(TensorDataset(IMAGES, LABELS))

    def cached(data: Any) -> bool:
        where: dict[str, Any] = {"plugin": [TOY], "store": tmp_path / "store"}
        advbench.matrix(data, "toy-linear", "toy-sign", "toy-keep", **where)
        return "cells come from the store" in " ".join(capsys.readouterr().err.split())

    assert cached((IMAGES, LABELS))
    assert cached(DataLoader(Pairs(), batch_size=7))
    assert not cached((IMAGES, LABELS.flip(0)))
    assert not cached((IMAGES * 0.99, LABELS))


def test_class_names_are_taken_from_torchvision_datasets(evaluate: Callable[[Any], advbench.Results]) -> None:
    for data in (Pairs(), Subset(Pairs(), range(12)), DataLoader(Pairs())):
        assert evaluate(data).data["run"]["class_names"] == {"data": ["ant", "bee", "cow"]}
    assert "class_names" not in evaluate((IMAGES, LABELS)).data["run"]


def test_the_data_is_a_copy(evaluate: Callable[[Any], advbench.Results]) -> None:
    images = IMAGES.clone()
    results = evaluate((images, LABELS))
    images.zero_()
    assert measured(evaluate((IMAGES, LABELS))) == measured(results)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((IMAGES * 2 - 1, LABELS), "[0, 1]: do not normalise the images; normalisation belongs inside the model"),
        (Pairs(lambda image: (image - 0.5) / 0.25), "the Pairs has pixels from -"),
        ((IMAGES * 255 * 0.999, LABELS), "expected [0, 1]: divide by the value of white, such as 255, or save uint8"),
        ((IMAGES / IMAGES.max() * 1.0000021, LABELS), "to 1.0000021; expected [0, 1]: clip them"),
        ((IMAGES / IMAGES.max() * torch.nan, LABELS), "has 192 pixels that are NaN or infinite, the first at"),
        ((IMAGES, LABELS[:-1]), "the data has 12 images and 11 labels"),
        ((IMAGES, LABELS.tolist()[:-1]), "the data has 12 images and 11 labels"),
        ((IMAGES, ["cat"] * 12), "the data has labels of <U3, shape (12,); expected whole numbers from 0, shape (n,)"),
        ((IMAGES, [[0, 1], [1]]), "the data has labels of several lengths; expected whole numbers from 0, or one-hot"),
        ((IMAGES, 3), "the data has labels of int64, shape (); expected whole numbers from 0, shape (n,)"),
        (([IMAGES[0], IMAGES[0, :, :2]], [0, 1]), "has images of shape (1, 4, 4) and (1, 2, 4); resize them"),
        ((IMAGES, LABELS - 1), "has the label -1 at index"),
        ((IMAGES, LABELS / 2), "has the label 0.5 at index"),
        ((IMAGES[:0], LABELS[:0]), "has images of shape (0, 1, 4, 4): none"),
        (TensorDataset(IMAGES), "the TensorDataset returns 1 values per sample; expected (image, label)"),
        (DataLoader([{"image": 1}]), "the DataLoader returns a dict per sample; expected (image, label)"),  # type: ignore[arg-type]
        (DataLoader(Pairs(eight_bits)), "the DataLoader cannot be read: TypeError: default_collate"),
        (Stream(), "the Stream is a stream, without order and length; give a dataset with __getitem__"),
        (DataLoader(Pairs(), sampler=SubsetRandomSampler([1, 2])), "selects its samples with a SubsetRandomSampler"),
        (DataLoader(Pairs(), sampler=WeightedRandomSampler([1.0] * 12, 12)), "with a WeightedRandomSampler"),
        (Pairs(torch.rand_like), "the Pairs returns another image each time sample 0 is read; remove random"),
        (DataLoader(Pairs(torch.rand_like)), "the DataLoader returns another image each time sample 0 is read"),
        (Pairs(lambda image: eight_bits(image).convert("CMYK")), "returns images of mode CMYK; convert them with"),
        (Pairs(lambda image: image[None]), "Pairs returns images as Tensor of shape (1, 1, 4, 4); expected a tensor"),
        ([(IMAGES[0], 0), (IMAGES[0, :, :2], 1)], "has images of shape (1, 4, 4) and (1, 2, 4); resize them"),
        (TensorDataset(IMAGES[:0], LABELS[:0]), "the TensorDataset is empty"),
        (Linear(1.0), "is not a dataset; give a spec, (images, labels), a TensorDataset, a DataLoader, or a torch"),
    ],
)  # fmt: skip
def test_unusable_data_is_a_one_line_error(
    evaluate: Callable[[Any], advbench.Results], tmp_path: Path, data: Any, message: str
) -> None:
    with pytest.raises(UsageError) as raised:
        evaluate(data)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "store").exists()


def test_a_torchvision_dataset_with_transforms(evaluate: Callable[[Any], advbench.Results], tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Grayscale, ToTensor

    for index, pixels in enumerate((IMAGES * 255).round().to(torch.uint8).numpy()):
        folder = tmp_path / "photos" / "abc"[int(LABELS[index])]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(folder / f"{index}.png")
    order = np.argsort(LABELS.numpy(), kind="stable")
    photos = ImageFolder(str(tmp_path / "photos"), transform=Compose([Grayscale(), ToTensor()]))
    assert [int(Path(file).stem) for file, _ in photos.samples[:2]] == sorted(order[:2].tolist(), key=str)
    results = evaluate(photos)
    assert results.data["run"]["class_names"] == {"data": ["a", "b", "c"]}
    assert measured(results)[:2] == measured(evaluate(((IMAGES * 255).round().to(torch.uint8), LABELS)))[:2]


@pytest.mark.parametrize("most", [2, 16, 63])
def test_dark_uint8_images_are_ambiguous(evaluate: Any, most: int) -> None:
    levels = np.random.default_rng(0).integers(0, most, (6, 1, 4, 4), dtype=np.uint8, endpoint=True)
    levels[0, 0, 0, 0] = most
    with pytest.raises(UsageError, match=f"uint8 pixels of at most {most}, so that the value of white is unknown"):
        evaluate((levels, np.arange(6) % 3))
    for images in (levels.astype(np.float32) / most, np.zeros_like(levels), levels.clip(max=1).astype(bool)):
        assert evaluate((images, np.arange(6) % 3)).data["cells"][0]["status"] == "ok"


def test_a_network_that_drops_the_batch_of_one_image_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Squeezed(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)[:, :3].squeeze()

    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    results = advbench.matrix(
        (IMAGES, LABELS), Squeezed(), "toy-sign", "toy-keep", plugin=[TOY], store=tmp_path / "store", quiet=True
    )
    (cell,) = results.data["cells"]
    assert "model 'squeezed' returned shape (3,) for a batch of 1; expected (images, classes)" in cell["error"]


def test_uint8_images_of_0_and_1_are_ambiguous(evaluate: Any) -> None:
    ones = (np.random.default_rng(0).random((6, 1, 4, 4)) > 0.5).astype(np.uint8)
    with pytest.raises(UsageError, match="uint8 pixels of at most 1, so that the value of white is unknown: divide"):
        evaluate((ones, np.arange(6) % 3))
    for images in (ones.astype(bool), ones.astype(np.float32), ones * np.uint8(255)):
        assert evaluate((images, np.arange(6) % 3)).data["cells"][0]["status"] == "ok"
