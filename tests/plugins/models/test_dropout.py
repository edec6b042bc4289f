from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training import make_job

from advbench.api import DataSources, LabelledImages, SampleRandom
from advbench_datasets.mnist_20 import Mnist20
from advbench_models.dropout import DropoutNetwork, MonteCarloDropout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, torch.Tensor]:
    return Mnist20().load(DataSources(tmp_path_factory.mktemp("cache"), download=False)).take(range(20))


def streams(draw: int, count: int = 20) -> SampleRandom:
    return SampleRandom(draw, "model", range(count))


def test_it_recognises_digits_and_each_draw_differs(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = digits
    network = MonteCarloDropout().load().eval()
    first, again, other = (network(images, streams(draw)) for draw in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert int((first.argmax(dim=1) == labels).sum()) >= 19
    torch.testing.assert_close(first.exp().sum(dim=1), torch.ones(20))


def test_many_masks_vary_less_than_one(digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, _ = digits
    spread = {}
    for samples in (1, 50):
        network = MonteCarloDropout(samples).load().eval()
        draws = torch.stack([network(images, streams(draw)).exp() for draw in range(8)])
        spread[samples] = float(draws.std(dim=0).mean())
    assert 0 < spread[50] < spread[1] / 4


def test_masks_drop_half_of_the_values_and_keep_the_mean() -> None:
    network = DropoutNetwork()
    with torch.no_grad():
        network.network.classifier[1].weight.fill_(1.0)
        network.network.classifier[1].bias.zero_()
    seen = []
    network.network.classifier[1].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    network.eval()(torch.rand(20, 1, 28, 28), streams(0))
    (dropped,) = seen
    kept = network.network.features((torch.rand(1, 1, 28, 28) - 0.1) / 0.3).flatten(1)
    assert kept.shape[1] == dropped.shape[1] == 800
    assert 0.4 < float((dropped == 0).float().mean()) < 0.9  # half, and what ReLU has set to 0


def test_a_resumed_training_draws_the_same_masks(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(130, 1, 28, 28, generator=generator), torch.randint(10, (130,), generator=generator)
    data = {
        "mnist:split=train": LabelledImages(images, labels, torch.arange(130)),
        "mnist:split=test": LabelledImages(images[:10], labels[:10], torch.arange(10)),
        "mnist-5k": LabelledImages(images[:0], labels[:0], torch.arange(0)),
    }
    files = []
    for name in ("one", "two"):
        job = make_job(tmp_path / f"{name}.safetensors", data, {}, dataset="mnist", epochs=1)
        sidecar = MonteCarloDropout().train(job)
        assert sidecar["dropout"] == "0.5 before both fully connected layers"
        files.append(job.output.read_bytes())
    assert files[0] == files[1]
