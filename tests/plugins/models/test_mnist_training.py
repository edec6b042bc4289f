from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
import torch
from tests.training import interrupt, make_job

from advbench.api import DataError, DataSources, LabelledImages, TrainingJob, TrainingLoop, TrainingProgress, UsageError
from advbench_datasets.mnist import Mnist
from advbench_datasets.mnist_5k import Mnist5k
from advbench_models.mnist_cnn import MnistCnn
from advbench_models.mnist_training import MNIST

pytestmark = pytest.mark.slow

BATCHES = 5
TRAINING_SAMPLES = 64 * (BATCHES - 1) + 10
HELD_OUT_SAMPLES = 7


def bars(count: int, first_id: int) -> LabelledImages:
    """Images of noise with a bright bar whose place is the label."""
    generator = torch.Generator().manual_seed(first_id)
    labels = torch.arange(count) % 10
    images = torch.randint(0, 80, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 4 + 2 * label : 6 + 2 * label] = 255
    return LabelledImages(images, labels, torch.arange(first_id, first_id + count))


def some(data: LabelledImages, positions: list[int]) -> LabelledImages:
    return LabelledImages(data.images[positions], data.labels[positions], torch.arange(len(positions)))


@pytest.fixture
def datasets() -> dict[str, LabelledImages]:
    train = bars(TRAINING_SAMPLES + HELD_OUT_SAMPLES, first_id=0)
    return {
        "mnist:split=train": train,
        "mnist:split=test": bars(100, first_id=60_000),
        "mnist-5k": some(train, list(range(0, 7 * 13, 13))),
    }


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for a busy processor cost batches as small as these more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[TrainingProgress]:
    monkeypatch.setattr(TrainingLoop, "REPORT_SECONDS", 0)
    return []


@pytest.fixture
def job(tmp_path: Path, datasets: dict[str, LabelledImages], reports: list[TrainingProgress]) -> TrainingJob:
    job = make_job(tmp_path / "weights.safetensors", datasets, dataset="mnist", epochs=3, recipe="paper")
    return dataclasses.replace(job, report=reports.append)


@pytest.mark.parametrize("kept", ["at the end of an epoch", "after every step"])
@pytest.mark.parametrize("step", [BATCHES, BATCHES + 2, 3 * BATCHES], ids=["after 1", "within 2", "after the last"])
def test_interrupted_training_ends_with_bit_equal_weights(
    step: int, kept: str, job: TrainingJob, reports: list[TrainingProgress], monkeypatch: pytest.MonkeyPatch
) -> None:
    if kept == "after every step":
        monkeypatch.setattr(TrainingLoop, "CHECKPOINT_SECONDS", 0)
    MnistCnn().train(job)
    uninterrupted, straight = job.output.read_bytes(), list(reports)
    job.output.unlink()

    interrupt(MnistCnn(), job, step)
    reports.clear()
    MnistCnn().train(job)
    assert job.output.read_bytes() == uninterrupted
    # It went on after the last checkpoint, with the same figures.
    behind = step if kept == "after every step" else step // BATCHES * BATCHES
    assert [progress.step for progress in reports] == list(range(behind + 1, 3 * BATCHES + 1))
    assert reports[-1:] == (straight[-1:] if behind < 3 * BATCHES else [])
    assert not job.checkpoint.exists()


def test_the_recipe_noise_learns_noisy_images_and_says_so(job: TrainingJob) -> None:
    plain = dataclasses.replace(job, epochs=1)
    sidecar = MnistCnn().train(dataclasses.replace(plain, recipe="noise"))
    assert sidecar["noise"] == "Gaussian, standard deviation 0.5"
    noisy = job.output.read_bytes()
    assert "noise" not in MnistCnn().train(plain)
    assert len(noisy) < len(job.output.read_bytes()) / 3, "its largest tensor is stored in 8 bits"


def test_weights_depend_on_the_seed_only(job: TrainingJob) -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.rand(3)  # The state of torch's own generator must not matter.
        MnistCnn().train(dataclasses.replace(job, seed=seed, epochs=1))
        weights.append(job.output.read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_torchs_default_generator_is_unchanged(job: TrainingJob) -> None:
    before = torch.get_rng_state()
    MnistCnn().train(dataclasses.replace(job, epochs=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_of_another_recipe_is_rejected(job: TrainingJob, datasets: dict[str, LabelledImages]) -> None:
    interrupt(MnistCnn(), job, BATCHES)
    checkpoint = job.checkpoint.read_bytes()
    fewer = {**datasets, "mnist:split=train": some(datasets["mnist:split=train"], list(range(200)))}
    for other, what in (
        (dataclasses.replace(job, seed=1), "seed was 0, now 1"),
        (dataclasses.replace(job, epochs=None), "epochs was 3, now 10"),
        (dataclasses.replace(job, load_dataset=fewer.__getitem__), "data_digest was"),
    ):
        with pytest.raises(UsageError, match=f"belongs to another training: {what}"):
            MnistCnn().train(other)
    assert job.checkpoint.read_bytes() == checkpoint
    assert not job.output.exists()


def test_progress_counts_every_batch_to_the_end(job: TrainingJob, reports: list[TrainingProgress]) -> None:
    MnistCnn().train(job)
    assert [progress.step for progress in reports] == list(range(1, 16))
    assert [progress.epoch for progress in reports] == [1] * 5 + [2] * 5 + [3] * 5
    assert {(progress.steps, progress.epochs) for progress in reports} == {(15, 3)}
    assert all(progress.figures["loss"] > 0 for progress in reports)
    assert [progress.step for progress in reports if "accuracy" in progress.figures] == [5, 10, 15]


def test_the_sidecar_records_recipe_data_and_results(job: TrainingJob, reports: list[TrainingProgress]) -> None:
    returned = MnistCnn().train(dataclasses.replace(job, seed=5))
    sidecar = json.loads(job.output.with_suffix(".json").read_text())
    assert sidecar == returned
    expected = {
        "component": "mnist-cnn",
        "epochs": 3,
        "batch_size": 64,
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "momentum": 0.5,
        "seed": 5,
        "training_samples": TRAINING_SAMPLES,
        "training_set": "mnist:split=train without the images of mnist-5k",
        "test_set": "mnist:split=test",
        "test_accuracy": reports[-1].figures["accuracy"],
        "sha256": MnistCnn(weights=str(job.output)).weights_digest(),
    }
    assert {key: sidecar[key] for key in expected} == expected
    assert sidecar["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert sidecar["date"].endswith("+00:00")


def test_the_trained_network_has_learnt_and_is_written(job: TrainingJob, datasets: dict[str, LabelledImages]) -> None:
    returned = MnistCnn().train(dataclasses.replace(job, epochs=12))
    test = datasets["mnist:split=test"]
    images, labels = test.take(test.ids.tolist())
    network = MnistCnn(weights=str(job.output)).load().eval()
    with torch.no_grad():
        accuracy = float((network(images).argmax(1) == labels).double().mean())
    assert accuracy == returned["test_accuracy"] > 0.9


def test_held_out_images_are_removed_by_their_pixels(datasets: dict[str, LabelledImages]) -> None:
    train, held_out = datasets["mnist:split=train"], datasets["mnist-5k"]
    kept = MNIST.without_held_out(train, held_out)
    assert kept.ids.tolist() == [i for i in range(len(train)) if i % 13 or i > 7 * 13 - 1]
    assert torch.equal(kept.images, train.images[kept.ids])
    assert torch.equal(kept.labels, train.labels[kept.ids])


def test_the_full_training_set_must_contain_every_held_out_image_once() -> None:
    numbers = torch.arange(60_000)
    pixels = torch.stack([numbers % 251, numbers // 251], dim=1).to(torch.uint8).reshape(-1, 1, 1, 2)
    train = LabelledImages(pixels, numbers % 10, numbers)
    held_out = some(train, list(range(0, 60_000, 12)))
    assert len(MNIST.without_held_out(train, held_out)) == 55_000
    strange = dataclasses.replace(held_out, images=held_out.images.clone())
    strange.images[17] = 255
    with pytest.raises(DataError, match="4999 images of mnist:split=train are in mnist-5k, which has 5000"):
        MNIST.without_held_out(train, strange)


def test_shipped_weights_were_trained_on_mnist_without_mnist_5k(tmp_path: Path) -> None:
    sources = mnist_at_hand(tmp_path)
    held_out = Mnist5k().load(sources)
    kept = MNIST.without_held_out(Mnist(split="train").load(sources), held_out)
    sidecar = json.loads((MnistCnn.shipped_folder / "mnist-cnn.json").read_text())
    assert len(kept) == sidecar["training_samples"] == 55_000
    assert kept.digest() == sidecar["data_digest"]
    unseen = {image.tobytes() for image in held_out.images.numpy()}
    assert unseen.isdisjoint(image.tobytes() for image in kept.images.numpy())


def mnist_at_hand(tmp_path: Path) -> DataSources:
    if given := os.environ.get("ADVBENCH_DATA_DIR"):
        return DataSources(cache_dir=tmp_path, data_dir=Path(given), download=False)
    cache = Path(platformdirs.user_cache_dir("advbench")) / "datasets"
    if (cache / "mnist.safetensors").is_file():
        return DataSources(cache_dir=cache, download=False)
    pytest.skip("MNIST is not at hand: set ADVBENCH_DATA_DIR to a folder with its four files")


def test_a_classifier_learns_the_images_of_the_defense_that_it_is_trained_behind(
    job: TrainingJob, datasets: dict[str, LabelledImages]
) -> None:
    def negatives(data: LabelledImages) -> LabelledImages:
        return dataclasses.replace(data, images=255 - data.images)

    behind = dataclasses.replace(job, epochs=12, defense="negative", defend=negatives)
    sidecar = MnistCnn().train(behind)
    assert sidecar["defense"] == "negative"
    assert sidecar["test_accuracy"] > 0.9
    assert len(sidecar["history"]) == 12
    network = MnistCnn(weights=str(job.output)).load().eval()
    images, labels = negatives(datasets["mnist:split=test"]).take(datasets["mnist:split=test"].ids.tolist())
    with torch.no_grad():
        assert float((network(images).argmax(1) == labels).double().mean()) == sidecar["test_accuracy"]
    interrupt(MnistCnn(), dataclasses.replace(behind, output=job.output.with_name("other.safetensors")), BATCHES)
    with pytest.raises(UsageError, match="defense was negative, now None"):
        MnistCnn().train(dataclasses.replace(job, epochs=12, output=job.output.with_name("other.safetensors")))
