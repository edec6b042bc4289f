"""The Fashion-MNIST classifier: its weights, which are shipped, and the recipe that makes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.training import assert_interruption_changes_nothing, make_job

from advbench.api import DataSources, LabelledImages, TrainingJob, TrainingLoop, sha256_file
from advbench_datasets.fashion_mnist import SPLITS
from advbench_datasets.fashion_mnist_20 import FashionMnist20
from advbench_models import fashion_mnist_training
from advbench_models.fashion_mnist_cnn import FashionMnistCnn
from advbench_models.fashion_mnist_training import mirror

pytestmark = pytest.mark.slow

SHIPPED = FashionMnistCnn.shipped_folder / "fashion-mnist-cnn.safetensors"
BATCH = 16


def bars(count: int, first_id: int) -> LabelledImages:
    """Images of noise with a bright bar whose place is the label; mirrored, they are as bright in each row."""
    generator = torch.Generator().manual_seed(first_id)
    labels = torch.arange(count) % 10
    images = torch.randint(0, 80, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 4 + 2 * label : 6 + 2 * label] = 255
    return LabelledImages(images, labels, torch.arange(first_id, first_id + count))


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingJob:
    monkeypatch.setattr(fashion_mnist_training, "BATCH_SIZE", BATCH)
    monkeypatch.setattr(TrainingLoop, "REPORT_SECONDS", 0)
    data = {"fashion-mnist:split=train": bars(4 * BATCH - 3, 0), "fashion-mnist:split=test": bars(40, 60_000)}
    return make_job(tmp_path / "weights.safetensors", data, dataset="fashion-mnist", epochs=2)


def test_shipped_weights_classify_images_of_the_test_set() -> None:
    images, labels = FashionMnist20().load(DataSources(Path("nowhere"))).take(range(20))
    network = FashionMnistCnn().load().eval()
    with torch.no_grad():
        logits = network(images)
    assert int((logits.argmax(1) == labels).sum()) >= 18
    assert logits.shape == (20, 10)


def test_the_shipped_sidecar_records_the_training() -> None:
    sidecar = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert sidecar["component"] == "fashion-mnist-cnn"
    assert sidecar["data_digest"] == SPLITS["train"].digest
    assert sidecar["test_accuracy"] >= 0.92
    assert (sidecar["training_samples"], sidecar["epochs"], sidecar["seed"]) == (60_000, 15, 0)
    assert sidecar["sha256"] == sha256_file(SHIPPED) == FashionMnistCnn().weights_digest()
    assert SHIPPED.stat().st_size <= 2_000_000


def test_the_first_layer_receives_normalised_images() -> None:
    images = FashionMnist20().load(DataSources(Path("nowhere"))).take(range(20))[0]
    network = FashionMnistCnn().load().eval()
    seen = []
    network.features[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(images)
    assert torch.allclose(seen[0], (images - 0.2860) / 0.3530)


def test_training_ends_with_weights_that_are_read_and_a_sidecar(job: TrainingJob) -> None:
    sidecar = FashionMnistCnn().train(job)
    assert sidecar == json.loads(job.output.with_suffix(".json").read_text())
    expected = {
        "component": "fashion-mnist-cnn", "recipe": "onecycle", "epochs": 2, "optimizer": "adam",
        "training_set": "fashion-mnist:split=train", "training_samples": 61, "test_set": "fashion-mnist:split=test",
        "sha256": FashionMnistCnn(weights=str(job.output)).weights_digest(),
    }  # fmt: skip
    assert {key: sidecar[key] for key in expected} == expected
    assert FashionMnistCnn(weights=str(job.output)).load() is not None
    assert not job.checkpoint.exists()


def test_an_interrupted_training_ends_with_bit_equal_weights(job: TrainingJob) -> None:
    assert_interruption_changes_nothing(FashionMnistCnn(), job, 5)


def test_half_of_the_images_are_mirrored() -> None:
    images = bars(400, 0).images
    images[:, :, :, 0] = 100
    images[:, :, :, -1] = 200
    shown = mirror(images, torch.Generator().manual_seed(0))
    mirrored = shown[:, 0, 0, 0] == 200
    assert 160 < int(mirrored.sum()) < 240
    assert torch.equal(shown[mirrored], images[mirrored].flip(3))
    assert torch.equal(shown[~mirrored], images[~mirrored])
    assert shown.dtype == torch.uint8
