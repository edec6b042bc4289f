from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training import make_job

from advbench.api import DataSources, LabelledImages, WeightsError
from advbench_datasets.mnist_20 import Mnist20
from advbench_models.random_features import RandomFeatures, RandomFeaturesNetwork


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, torch.Tensor]:
    return Mnist20().load(DataSources(tmp_path_factory.mktemp("cache"), download=False)).take(range(20))


@pytest.mark.parametrize("seed", range(5))
def test_the_shipped_weights_recognise_digits(seed: int, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = digits
    network = RandomFeatures(seed=seed).load().eval()
    assert int((network(images).argmax(dim=1) == labels).sum()) >= 19


def test_each_seed_has_its_own_filters_and_keeps_them() -> None:
    filters = [RandomFeaturesNetwork(seed).filters for seed in (0, 0, 1)]
    assert torch.equal(filters[0], filters[1])
    assert not torch.equal(filters[0], filters[2])
    torch.testing.assert_close(RandomFeatures().load().filters, filters[0])
    assert [name for name, _ in RandomFeaturesNetwork(0).named_parameters()] == ["last.weight", "last.bias"]


def test_training_solves_the_least_squares_problem(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1300, 1, 28, 28, generator=generator)
    labels = torch.randint(10, (1300,), generator=generator)
    data = {
        "mnist:split=train": LabelledImages(images[:1250], labels[:1250], torch.arange(1250)),
        "mnist:split=test": LabelledImages(images[1250:], labels[1250:], torch.arange(50)),
        "mnist-5k": LabelledImages(images[:50], labels[:50], torch.arange(50)),
    }
    job = make_job(tmp_path / "features.safetensors", data, {}, dataset="mnist", epochs=1)
    sidecar = RandomFeatures(seed=3).train(job)
    assert sidecar["training_samples"] == 1200
    assert sidecar["versions"]["torch"] == torch.__version__.partition("+")[0]
    network = RandomFeatures(seed=3, weights=str(job.output)).load()
    with torch.no_grad():
        features = network.features(images[50:1250]).double()
        errors = network(images[50:1250]).double() - 10 * torch.nn.functional.one_hot(labels[50:1250], 10)
    slope = features.T @ errors + 1e-2 * network.last.weight.double().T  # of the regularised squares
    assert slope.abs().max() < 1e-3 * (features.T @ features).abs().max()
    with pytest.raises(WeightsError, match="have the filters of another seed than 4"):
        RandomFeatures(seed=4, weights=str(job.output)).load()


def test_seeds_without_weights_say_how_to_make_them() -> None:
    command = (
        "'advbench train mnist-random-features:seed=9 --output FILE' and use mnist-random-features:seed=9,weights="
    )
    with pytest.raises(WeightsError, match=command):
        RandomFeatures(seed=9).weights_digest()
