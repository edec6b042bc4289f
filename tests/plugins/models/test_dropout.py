from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training import assert_interruption_changes_nothing, make_job

from advbench.api import DataSources, LabelledImages, SampleRandom
from advbench_datasets.mnist_20 import Mnist20
from advbench_models.dropout import MonteCarloDropout, _masked

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
        draws = torch.stack([network(images, streams(draw)).exp().detach() for draw in range(8)])
        spread[samples] = float(draws.std(dim=0).mean())
    assert 0 < spread[50] < spread[1] / 4


def test_masks_drop_half_of_the_values_and_keep_the_mean() -> None:
    masked = _masked(torch.ones(20, 800), streams(0))
    assert set(masked.unique().tolist()) == {0.0, 2.0}
    assert float(masked.mean()) == pytest.approx(1.0, abs=0.05)
    assert not torch.equal(masked[0], masked[1])


def test_a_resumed_training_draws_the_same_masks(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(130, 1, 28, 28, generator=generator), torch.randint(10, (130,), generator=generator)
    data = {
        "mnist:split=train": LabelledImages(images, labels, torch.arange(130)),
        "mnist:split=test": LabelledImages(images[:10], labels[:10], torch.arange(10)),
        "mnist-5k": LabelledImages(images[:0], labels[:0], torch.arange(0)),
    }
    job = make_job(tmp_path / "one.safetensors", data, {}, dataset="mnist", epochs=2)
    assert_interruption_changes_nothing(MonteCarloDropout(), job, 4)
    job.output.unlink()
    assert MonteCarloDropout().train(job)["dropout"] == "0.5 before both fully connected layers"
