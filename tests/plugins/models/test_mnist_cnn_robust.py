from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.training import assert_interruption_changes_nothing, interrupt, make_job
from torch.nn import functional

from advbench.api import (
    DataSources,
    LabelledImages,
    SampleRandom,
    TrainingJob,
    TrainingLoop,
    TrainingProgress,
    UsageError,
)
from advbench_attacks.minimal.cw import CarliniWagnerL2
from advbench_attacks.minimal.ddn import DecoupledDirectionAndNorm
from advbench_attacks.minimal.fmn import FastMinimumNorm
from advbench_datasets.mnist_5k import Mnist5k
from advbench_models import mnist_adversarial_training as recipe
from advbench_models.mnist_cnn import MnistCnn
from advbench_models.mnist_cnn_robust import MnistCnnRobust, MnistCnnRobustNetwork

pytestmark = pytest.mark.slow

SHIPPED = MnistCnnRobust.shipped_folder / "mnist-cnn-robust.safetensors"
BATCHES = 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for a busy processor cost batches as small as these more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, torch.Tensor]:
    dataset = Mnist5k()
    return dataset.load(DataSources(tmp_path_factory.mktemp("cache"), download=False)).take(dataset.ids())


@pytest.fixture(scope="module")
def shipped() -> torch.nn.Module:
    return MnistCnnRobust().load().eval().requires_grad_(False)


def accuracy(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    with torch.no_grad():
        predictions = torch.cat([network(batch).argmax(1) for batch in images.split(500)])
    return float((predictions == labels).double().mean())


def under_pgd(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int, **how: float) -> float:
    generator = torch.Generator().manual_seed(0)
    crafted = recipe.pgd(
        network, images, labels, **{"eps": 0.3, "step_size": 0.03, **how}, steps=steps, generator=generator
    )
    return accuracy(network, crafted, labels)


def test_the_network_equals_the_sources() -> None:
    network = MnistCnnRobustNetwork()
    sizes = [tuple(parameter.shape) for parameter in network.parameters() if parameter.ndim > 1]
    assert sizes == [(16, 1, 4, 4), (32, 16, 4, 4), (100, 1568), (10, 100)]
    assert sum(parameter.numel() for parameter in network.parameters()) == 166_406


def test_shipped_weights_classify_images_not_in_the_training_set(
    shipped: torch.nn.Module, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    assert accuracy(shipped, *digits) >= 0.975
    with torch.no_grad():
        assert shipped(digits[0][::500]).logsumexp(1).abs().min() > 1  # of log-probabilities it would be 0


def test_shipped_weights_are_more_robust_than_the_standard_network(
    shipped: torch.nn.Module, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = digits[0][::25], digits[1][::25]
    plain = MnistCnn().load().eval().requires_grad_(False)
    assert under_pgd(plain, images, labels, 20) <= 0.05
    robust = under_pgd(shipped, images, labels, 20)
    assert robust >= 0.85
    # Had it only learnt to withstand few steps, or to hide its gradients, more steps or a larger eps would tell.
    assert under_pgd(shipped, images, labels, 100, step_size=0.01) >= robust - 0.05
    assert under_pgd(shipped, images, labels, 40, eps=0.6, step_size=0.06) <= 0.05


def test_minimal_attacks_find_the_distant_boundaries_of_adversarial_training(
    shipped: torch.nn.Module, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = digits[0][::100], digits[1][::100]
    right = shipped(images).argmax(1) == labels
    images, labels = images[right], labels[right]
    draws = SampleRandom(0, "attack", range(len(images)), torch.device("cpu"))
    success_rate, median, distances = {}, {}, {}
    for attack in (DecoupledDirectionAndNorm(), FastMinimumNorm("l2"), CarliniWagnerL2(steps=300)):
        crafted = attack.run(shipped, images, labels, draws)
        success_rate[attack.name] = float((shipped(crafted).argmax(1) != labels).double().mean())
        sizes = distances[attack.name] = (crafted - images).flatten(1).norm(dim=1)
        median[attack.name] = float(sizes.median())
    # Begun at the clean image, where black pixels hardly move, they fooled it on all, 37 % and none of the images.
    assert success_rate == {"ddn": 1, "fmn": 1, "cw": 1}
    # The slopes at most clean images tell of a boundary that is ten times as far, beside which they found others.
    assert (distances["cw"] <= 1.01 * distances["ddn"]).all()
    assert median["cw"] <= median["fmn"] <= median["ddn"] <= 2


def test_the_shipped_sidecar_records_the_training() -> None:
    sidecar = json.loads(SHIPPED.with_suffix(".json").read_text())
    expected = {
        "component": "mnist-cnn-robust",
        "recipe": "pgd",
        "sha256": MnistCnnRobust().weights_digest(),
        "epochs": recipe.EPOCHS,
        "batch_size": recipe.BATCH_SIZE,
        "learning_rate": recipe.LEARNING_RATE,
        "eps": recipe.EPS,
        "seed": 0,
        "training_samples": 55_000,
        # The digest is that of the images that mnist-cnn learnt: MNIST's training set without mnist-5k.
        "data_digest": json.loads((SHIPPED.parent / "mnist-cnn.json").read_text())["data_digest"],
    }
    assert {key: sidecar[key] for key in expected} == expected
    assert sidecar["test_accuracy"] >= 0.975
    assert sidecar["robust_accuracy"] >= 0.85
    assert {"python", "torch", "advbench"} <= sidecar["versions"].keys()
    assert "/" not in json.dumps({key: value for key, value in sidecar.items() if key != "date"})
    assert SHIPPED.stat().st_size < 700_000


def squares(count: int, first_id: int) -> LabelledImages:
    """Images of faint noise with a white square whose place is the label."""
    generator = torch.Generator().manual_seed(first_id)
    labels = torch.arange(count) % 4
    images = torch.randint(0, 60, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        row, column = 14 * (label // 2), 14 * (label % 2)
        image[0, row : row + 12, column : column + 12] = 255
    return LabelledImages(images, labels, torch.arange(first_id, first_id + count))


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[TrainingProgress]:
    monkeypatch.setattr(TrainingLoop, "REPORT_SECONDS", 0)
    return []


@pytest.fixture
def job(tmp_path: Path, reports: list[TrainingProgress], monkeypatch: pytest.MonkeyPatch) -> TrainingJob:
    monkeypatch.setattr(recipe, "BATCH_SIZE", 20)
    data = {
        "mnist:split=train": squares(20 * BATCHES - 5, 0),
        "mnist:split=test": squares(40, 60_000),
        "mnist-5k": squares(8, 90_000),
    }
    made = make_job(tmp_path / "weights.safetensors", data, dataset="mnist", epochs=2, recipe="pgd")
    return dataclasses.replace(made, report=reports.append)


@pytest.mark.parametrize("step", [BATCHES - 1, BATCHES, 2 * BATCHES - 1], ids=["within 1", "after 1", "within 2"])
def test_interrupted_training_ends_with_bit_equal_weights(
    step: int, job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingLoop, "CHECKPOINT_SECONDS", 0)
    assert_interruption_changes_nothing(MnistCnnRobust(), job, step)


def test_weights_depend_on_the_seed_only(job: TrainingJob) -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.rand(3)  # the state of torch's own generator must not matter
        MnistCnnRobust().train(dataclasses.replace(job, seed=seed, epochs=1))
        weights.append(job.output.read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_a_checkpoint_of_another_attack_is_rejected(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(MnistCnnRobust(), job, BATCHES)
    monkeypatch.setattr(recipe, "STEPS", 3)
    with pytest.raises(
        UsageError, match=r"belongs to another training: attack was PGD .* 8 steps .*, now PGD .* 3 steps"
    ):
        MnistCnnRobust().train(job)


def test_adversarial_training_is_more_robust_than_standard_training(
    job: TrainingJob, reports: list[TrainingProgress], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = dataclasses.replace(job, epochs=10)
    taught = MnistCnnRobust().train(job)
    assert json.loads(job.output.with_suffix(".json").read_text()) == taught
    last = reports[-1].figures
    assert (taught["test_accuracy"], taught["robust_accuracy"]) == (last["accuracy"], last["robust_accuracy"])
    network = MnistCnnRobust(weights=str(job.output)).load().eval()
    test = job.load_dataset("mnist:split=test")
    images, labels = test.take(test.ids.tolist())
    assert accuracy(network, images, labels) == taught["test_accuracy"] >= 0.95
    assert abs(under_pgd(network, images, labels, 40, step_size=0.02) - taught["robust_accuracy"]) <= 0.1
    monkeypatch.setattr(recipe, "STEPS", 0)
    monkeypatch.setattr(recipe, "GROWTH", 1e9)  # so that the random start is the image
    plain = MnistCnnRobust().train(job)
    assert plain["test_accuracy"] >= 0.95
    assert taught["robust_accuracy"] >= plain["robust_accuracy"] + 0.2


def test_adversarial_images_are_in_the_ball_and_increase_the_loss(
    shipped: torch.nn.Module, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = digits[0][::250], digits[1][::250]
    kept = images.clone()
    made = [
        recipe.pgd(
            shipped, images, labels, eps=0.2, steps=8, step_size=0.05, generator=torch.Generator().manual_seed(seed)
        )
        for seed in (0, 0, 1)
    ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert (made[0] - images).abs().max() <= 0.2 + 1e-6
    assert made[0].min() >= 0
    assert made[0].max() <= 1
    assert not made[0].requires_grad
    assert functional.cross_entropy(shipped(made[0]), labels) > functional.cross_entropy(shipped(images), labels)
    assert torch.equal(images, kept)


def test_eps_grows_during_the_first_steps(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = recipe.pgd

    def spy(*arguments, **how):
        if how["steps"] == recipe.STEPS:
            seen.append((how["eps"], how["step_size"]))
        return original(*arguments, **how)

    monkeypatch.setattr(recipe, "pgd", spy)
    monkeypatch.setattr(recipe, "GROWTH", 0.5)
    MnistCnnRobust().train(job)
    assert [eps for eps, _ in seen] == pytest.approx([recipe.EPS / 3, recipe.EPS * 2 / 3, *[recipe.EPS] * 4])
    assert all(step_size == pytest.approx(eps / 4) for eps, step_size in seen)
