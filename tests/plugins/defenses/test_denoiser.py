"""The denoising autoencoder: what it restores, its training, and its errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training import assert_interruption_changes_nothing, make_job

from advbench.api import DataSources, LabelledImages, ParameterError, SampleRandom, TrainingJob, WeightsError
from advbench_datasets.cifar10_20 import Cifar10First20
from advbench_datasets.mnist_20 import Mnist20
from advbench_defenses.generative.denoiser import Denoiser

pytestmark = pytest.mark.slow

RNG = SampleRandom(0, "defense", range(20))


@pytest.mark.parametrize(("dataset", "strength", "gain"), [(Mnist20(), 0.25, 8.0), (Cifar10First20(), 0.1, 4.0)])
def test_denoised_images_are_nearer_to_the_clean_ones(
    tmp_path: Path, dataset: Mnist20 | Cifar10First20, strength: float, gain: float
) -> None:
    images, _ = dataset.load(DataSources(tmp_path, download=False)).take(range(20))
    noise = strength * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    noisy = (images + noise).clamp(0, 1)
    restored = Denoiser().apply(noisy, RNG)
    errors = [(found - images).square().mean().log10() for found in (noisy, restored)]
    assert 10 * float(errors[0] - errors[1]) > gain, "decibels"
    assert (restored - images).square().mean(dim=(1, 2, 3)).max() < (noisy - images).square().mean()


def small(count: int, first: int) -> LabelledImages:
    generator = torch.Generator().manual_seed(first)
    return LabelledImages(
        torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8),
        torch.zeros(count, dtype=torch.int64),
        torch.arange(first, first + count),
    )


def job(path: Path) -> TrainingJob:
    train = small(300, 0)
    held_out = LabelledImages(train.images[:7], train.labels[:7], torch.arange(7))
    data = {"mnist:split=train": train, "mnist:split=test": small(30, 1000), "mnist-5k": held_out}
    return make_job(path, data, {}, dataset="mnist", epochs=1)


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    first = job(tmp_path / "one.safetensors")
    assert_interruption_changes_nothing(Denoiser(), first, 2)
    first.output.unlink()
    sidecar = Denoiser().train(first)
    assert sidecar["training_samples"] == 293
    assert sidecar["loss"] == "binary cross-entropy of pixels"
    assert sidecar["psnr_noisy"] < 20
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    own = Denoiser(str(first.output)).apply(images, RNG)
    assert own.shape == images.shape
    assert not torch.equal(own, Denoiser().apply(images, RNG))


def test_what_it_cannot_take_is_told(tmp_path: Path) -> None:
    assert Denoiser().incompatibility((2, 28, 28)) == "denoiser has weights for images of 1 and 3 channels, not of 2"
    assert Denoiser().incompatibility((1, 30, 28)) == "denoiser takes images whose sides are multiples of 4, not 30×28"
    assert not Denoiser().incompatibility((3, 224, 224))
    with pytest.raises(
        ParameterError, match=r"weights=mine\.pt: must be 'shipped' or the path of a \.safetensors file"
    ):
        Denoiser("mine.pt")
    with pytest.raises(WeightsError, match=r"'advbench train denoiser --dataset NAME --output .*' makes them"):
        Denoiser(str(tmp_path / "none.safetensors")).weights_digest()
