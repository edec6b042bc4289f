from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import platformdirs
import pytest
import torch
from tests.training import assert_interruption_changes_nothing, interrupt, make_job
from torch import nn

from advbench.api import DataSources, LabelledImages, Trainable, TrainingJob, TrainingLoop, UsageError, load_weights
from advbench_datasets.cifar10 import Cifar10
from advbench_datasets.cifar10_20 import Cifar10First20
from advbench_models import cifar10_densenet, cifar10_training
from advbench_models.cifar10_densenet import Cifar10DenseNet, DenseNetNetwork
from advbench_models.cifar10_training import crop_and_mirror

pytestmark = pytest.mark.slow

BATCH = 16


class SmallNetwork(nn.Module):
    """Batch normalisation, convolutions and a linear layer, as the real network has, but quick."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        self.out = nn.Linear(8 * 15 * 15, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.layers(images))
        return logits


def stripes(count: int, first_id: int) -> LabelledImages:
    """Noise whose colour and brightness follow from the label."""
    generator = torch.Generator().manual_seed(first_id)
    labels = torch.arange(count) % 10
    images = torch.randint(0, 60, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[label % 3] += 15 * label
    return LabelledImages(images, labels, torch.arange(first_id, first_id + count))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10_training, "BATCH_SIZE", BATCH)
    monkeypatch.setattr(TrainingLoop, "REPORT_SECONDS", 0)


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    data = {"cifar10:split=train": stripes(4 * BATCH - 3, 0), "cifar10:split=test": stripes(40, 50_000)}
    return make_job(tmp_path / "weights.safetensors", data, dataset="cifar10", epochs=2)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Trainable:
    monkeypatch.setattr(cifar10_densenet, "DenseNetNetwork", SmallNetwork)
    return Cifar10DenseNet()


def test_network_is_densenet_bc_of_121_layers() -> None:
    network = DenseNetNetwork()
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_000_618
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 1 + 2 * (6 + 12 + 24 + 16) + 3
    assert network.classifier.in_features == 384
    with torch.no_grad():
        assert network.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("recipe", ["paper", "onecycle"])
def test_interrupted_training_ends_with_bit_equal_weights(
    recipe: str, quick: Trainable, job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingLoop, "CHECKPOINT_SECONDS", 0)
    assert_interruption_changes_nothing(quick, dataclasses.replace(job, recipe=recipe), step=6)


def test_training_does_not_resume_with_another_recipe(
    quick: Trainable, job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingLoop, "CHECKPOINT_SECONDS", 0)
    interrupt(quick, job, step=1)
    kept = job.checkpoint.read_bytes()
    with pytest.raises(UsageError, match=r"belongs to another training: learning_rate was .* to train from"):
        quick.train(dataclasses.replace(job, recipe="paper"))
    assert job.checkpoint.read_bytes() == kept


def test_recipes_equal_the_recorded_ones(quick: Trainable, job: TrainingJob) -> None:
    sidecars = {recipe: quick.train(dataclasses.replace(job, recipe=recipe)) for recipe in quick.recipes}
    assert list(sidecars) == ["paper", "onecycle"]
    assert {key: sidecars["paper"][key] for key in ("learning_rate", "momentum", "weight_decay", "schedule")} == {
        "learning_rate": 0.1,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "constant",
    }
    assert cifar10_training.EPOCHS == {"paper": 150, "onecycle": 15}
    recorded = json.loads(job.output.with_suffix(".json").read_text())
    assert recorded == sidecars["onecycle"]
    assert recorded["training_samples"] == 4 * BATCH - 3
    network = SmallNetwork()
    network.load_state_dict(load_weights(job.output, "train it"))
    test = stripes(40, 50_000)
    with torch.no_grad():
        right = (network.eval()(test.images / 255).argmax(1) == test.labels).float().mean()
    assert recorded["test_accuracy"] == pytest.approx(float(right))


def test_augmentation_crops_and_mirrors() -> None:
    images = torch.arange(1, 2 * 3 * 6 * 7 + 1, dtype=torch.float32).reshape(2, 3, 6, 7)
    many = images.repeat(200, 1, 1, 1)
    made = crop_and_mirror(many, torch.Generator().manual_seed(0))
    assert made.shape == many.shape
    padded = nn.functional.pad(images, [4] * 4)
    possible: list[set[tuple[float, ...]]] = []
    for image in padded:
        crops = [image[:, y : y + 6, x : x + 7] for y in range(9) for x in range(9)]
        possible.append({tuple(c.flatten().tolist()) for crop in crops for c in (crop, crop.flip(2))})
    seen: list[set[tuple[float, ...]]] = [set(), set()]
    for i, image in enumerate(made):
        seen[i % 2].add(tuple(image.flatten().tolist()))
    assert all(found <= every for found, every in zip(seen, possible, strict=True))
    assert all(len(found) > 100 for found in seen)
    assert torch.equal(made, crop_and_mirror(many, torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def shipped() -> nn.Module:
    return Cifar10DenseNet().load().eval()


def test_shipped_weights_classify_the_20_bundled_images(shipped: nn.Module, tmp_path: Path) -> None:
    dataset = Cifar10First20()
    images, labels = dataset.load(DataSources(tmp_path, download=False)).take(dataset.ids())
    with torch.no_grad():
        assert float((shipped(images).argmax(1) == labels).float().mean()) >= 0.85


def test_folding_does_not_change_the_logits(shipped: nn.Module, tmp_path: Path) -> None:
    trained = DenseNetNetwork()
    trained.load_state_dict(load_weights(Cifar10DenseNet.shipped_folder / "cifar10-densenet.safetensors", "train it"))
    dataset = Cifar10First20()
    images, _ = dataset.load(DataSources(tmp_path, download=False)).take(dataset.ids())
    with torch.no_grad():
        quick, slow = shipped(images), trained.eval()(images)
    assert torch.allclose(quick, slow, atol=1e-4)
    assert torch.equal(quick.argmax(1), slow.argmax(1))
    norms = [sum(isinstance(part, nn.BatchNorm2d) for part in network.modules()) for network in (trained, shipped)]
    assert norms == [120, 120 - 58], "one of each layer's two normalisations is part of a convolution"


def test_shipped_weights_reach_their_recorded_accuracy(shipped: nn.Module, tmp_path: Path) -> None:
    sidecar = json.loads((Cifar10DenseNet.shipped_folder / "cifar10-densenet.json").read_text())
    assert sidecar["test_accuracy"] >= 0.90
    data = Cifar10().load(cifar10_at_hand(tmp_path))
    right = 0
    with torch.no_grad():
        for start in range(0, len(data), 500):
            images, labels = data.take(data.ids[start : start + 500].tolist())
            right += int((shipped(images).argmax(1) == labels).sum())
    assert right / len(data) == pytest.approx(sidecar["test_accuracy"], abs=5e-4)


def cifar10_at_hand(tmp_path: Path) -> DataSources:
    if given := os.environ.get("ADVBENCH_DATA_DIR"):
        sources = DataSources(cache_dir=tmp_path, data_dir=Path(given), download=False)
    else:
        sources = DataSources(cache_dir=Path(platformdirs.user_cache_dir("advbench")) / "datasets", download=False)
    if Cifar10().location(sources) is None:
        pytest.skip("CIFAR-10 is not at hand: set ADVBENCH_DATA_DIR to a folder with its files")
    return sources
