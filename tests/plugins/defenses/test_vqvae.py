from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.training import assert_interruption_changes_nothing, interrupt, make_job
from torch import nn

from advbench.api import (
    LabelledImages,
    ParameterError,
    SampleRandom,
    TrainingJob,
    TrainingLoop,
    UsageError,
    WeightsError,
    load_weights,
)
from advbench_defenses import vqvae, vqvae_training
from advbench_defenses.vqvae import VqVae
from advbench_defenses.vqvae_network import STRAIGHT_THROUGH_SHARE, VectorQuantiser, VqVaeNetwork
from advbench_defenses.vqvae_training import add_noise

pytestmark = pytest.mark.slow

HIDDEN, WORDS = 16, 24
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


class Classifier(nn.Module):
    """Tells how bright an image is: 0 to 9."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        brightness = images.mean(dim=(1, 2, 3)) * 10 - 0.5
        return -(brightness[:, None] - torch.arange(10)).abs()


def blobs(count: int, first_id: int, shape: tuple[int, int, int]) -> LabelledImages:
    """Flat images with a brighter square, as bright on the whole as their label says."""
    generator = torch.Generator().manual_seed(first_id)
    labels = torch.arange(count) % 10
    images = (labels[:, None, None, None] * 25 + 10).expand(count, *shape).to(torch.uint8).clone()
    for image in images:
        y, x = torch.randint(0, shape[1] - 6, (2,), generator=generator).tolist()
        image[:, y : y + 6, x : x + 6] = 255 - image[0, 0, 0]
    return LabelledImages(images, labels, torch.arange(first_id, first_id + count))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vqvae_training, "BATCH_SIZE", 16)
    monkeypatch.setattr(vqvae_training, "WARM_UP", 3)
    monkeypatch.setattr(TrainingLoop, "REPORT_SECONDS", 0)
    monkeypatch.setattr(TrainingLoop, "CHECKPOINT_SECONDS", 0)


SmallVqVae = functools.partial(VqVae, hidden=HIDDEN, words=WORDS)

JobFor = Callable[..., TrainingJob]


@pytest.fixture
def job_for(tmp_path: Path) -> JobFor:
    def make(dataset: str, **changes: object) -> TrainingJob:
        shape = SHAPES[dataset]
        train = blobs(6 * 16 - 5, 0, shape)
        data = {
            f"{dataset}:split=train": train,
            f"{dataset}:split=test": blobs(60, 1000, shape),
            "mnist-5k": LabelledImages(train.images[3:5], train.labels[3:5], torch.arange(2)),
        }
        models = {"mnist-cnn": Classifier(), "cifar10-densenet": Classifier()}
        job = make_job(tmp_path / f"{dataset}.safetensors", data, models, dataset=dataset, epochs=2)
        return dataclasses.replace(job, **changes)  # type: ignore[arg-type]

    return make


def rng(count: int) -> SampleRandom:
    return SampleRandom(0, "defense", range(count))


def test_the_network_equals_the_studys() -> None:
    network = VqVaeNetwork(3)
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_882_179
    assert tuple(network.quantiser.codebook.shape) == (512, 256)
    with torch.no_grad():
        made, quantised = network.eval().reconstruct(torch.rand(2, 3, 32, 32))
    assert made.shape == (2, 3, 32, 32)
    assert quantised.codes.shape == (2 * 8 * 8,)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


def test_every_vector_is_quantised_to_its_nearest_word() -> None:
    quantiser = VectorQuantiser(40, 5)
    with torch.no_grad():
        quantiser.codebook.normal_(generator=torch.Generator().manual_seed(1))
    latents = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(2))
    quantised = quantiser(latents)
    vectors = latents.permute(0, 2, 3, 1).reshape(-1, 5)
    assert torch.equal(quantised.vectors, vectors)
    assert torch.equal(quantised.codes, torch.cdist(vectors.double(), quantiser.codebook.double()).argmin(1))
    assert torch.equal(quantised.words, quantiser.codebook[quantised.codes])


def test_gradient_passes_straight_through_the_quantisation() -> None:
    torch.manual_seed(0)
    network = VqVaeNetwork(1, hidden=8, words=4).eval()
    images = torch.rand(2, 1, 28, 28, requires_grad=True)
    made, quantised = network.reconstruct(images)
    (gradient,) = torch.autograd.grad(made.sum(), images, retain_graph=True)
    assert float(gradient.abs().max()) > 0
    # The words learn from the codebook's term alone.
    (to_words,) = torch.autograd.grad(made.sum(), network.quantiser.codebook, allow_unused=True)
    assert to_words is None
    (to_words,) = torch.autograd.grad(quantised.words.sum(), network.quantiser.codebook)
    assert float(to_words.sum()) == pytest.approx(quantised.words.numel())


def test_the_soft_assignment_changes_the_gradient_and_no_value() -> None:
    torch.manual_seed(0)
    network = VqVaeNetwork(1, hidden=8, words=4).eval()
    images = torch.rand(2, 1, 28, 28, requires_grad=True)
    gradients, made = [], []
    for temperature in (None, 0.05, 1e-9):
        made.append(network.reconstruct(images, temperature)[0])
        gradients.append(torch.autograd.grad(made[-1].square().sum(), images)[0])
    assert torch.equal(made[0], made[1])
    straight, soft, hard = gradients
    assert not torch.allclose(soft, straight * STRAIGHT_THROUGH_SHARE, rtol=0.01, atol=0)
    # Where the assignment is certain, the straight-through share is all that remains.
    torch.testing.assert_close(hard, straight * STRAIGHT_THROUGH_SHARE)


def test_a_vector_between_two_words_is_their_mean() -> None:
    quantiser = VectorQuantiser(3, 2)
    with torch.no_grad():
        quantiser.codebook.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]]))
    vectors = torch.tensor([[0.5, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(quantiser.soft_words(vectors, 0.05), torch.tensor([[0.5, 0.0], [0.0, 0.0]]))


def test_noise_is_of_its_kind_and_strength() -> None:
    images = torch.full((50, 1, 20, 20), 0.5)
    made = {kind: add_noise(images, 0.3, kind, torch.Generator().manual_seed(0)) for kind in vqvae_training.NOISES}
    # On [-1, 1], which is twice as wide as [0, 1].
    assert float(made["gaussian"].std()) == pytest.approx(0.15, rel=0.02)
    assert float(made["uniform"].min()) == pytest.approx(0.35, abs=0.001)
    assert float(made["uniform"].max()) == pytest.approx(0.65, abs=0.001)
    speckled = made["salt-and-pepper"]
    assert set(speckled.unique().tolist()) == {0.0, 0.5, 1.0}
    assert float((speckled == 0).float().mean()) == pytest.approx(0.15, abs=0.01)
    assert float((speckled == 1).float().mean()) == pytest.approx(0.15, abs=0.01)
    assert torch.equal(add_noise(images, 0, "gaussian", torch.Generator()), images)


@pytest.mark.parametrize("noise", [0, 0.5])
@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_interrupted_training_ends_with_bit_equal_weights(dataset: str, noise: float, job_for: JobFor) -> None:
    assert_interruption_changes_nothing(SmallVqVae(noise=noise), job_for(dataset), step=8)


def test_training_does_not_resume_with_different_noise(job_for: JobFor) -> None:
    job = job_for("mnist")
    interrupt(SmallVqVae(noise=0.25), job, step=3)
    with pytest.raises(UsageError, match=r"belongs to another training: noise was 0\.25, now 0\.75"):
        SmallVqVae(noise=0.75).train(job)


def test_codebook_stays_in_use(job_for: JobFor, monkeypatch: pytest.MonkeyPatch) -> None:
    replacing = SmallVqVae().train(job_for("mnist", epochs=12))["perplexity"]
    monkeypatch.setattr(vqvae_training.VqVaeTraining, "_replace_dead_words", lambda *_: None)
    assert replacing > 1.2 * SmallVqVae().train(job_for("mnist", epochs=12))["perplexity"]


def test_the_sidecar_measures_the_stored_weights(job_for: JobFor) -> None:
    job = job_for("cifar10", epochs=8)
    returned = SmallVqVae(noise=0.25).train(job)
    sidecar = json.loads(job.output.with_suffix(".json").read_text())
    assert sidecar == returned
    assert {key: sidecar[key] for key in ("noise", "noise_kind", "epochs", "recipe", "training_samples")} == {
        "noise": 0.25,
        "noise_kind": "gaussian",
        "epochs": 8,
        "recipe": "onecycle",
        "training_samples": 91,
    }
    test = blobs(60, 1000, SHAPES["cifar10"])
    images, labels = test.images / 255, test.labels
    made = SmallVqVae(noise=0.25, weights=str(job.output)).apply(images, rng(60))
    assert sidecar["mse"] == pytest.approx(float((made - images).square().mean()), rel=1e-3)
    assert sidecar["psnr"] == pytest.approx(-10 * torch.log10((made - images).square().mean()).item(), abs=0.01)
    assert sidecar["classifier_accuracy"] == float((Classifier()(made).argmax(1) == labels).double().mean())
    assert [set(measures) for measures in sidecar["history"]] == [
        {"mse", "psnr", "perplexity", "perplexity_clean", "classifier_accuracy"}
    ] * 8
    assert sidecar["history"][-1] == pytest.approx(sidecar["float32"], rel=0.05)
    assert sidecar["float32"]["mse"] == pytest.approx(sidecar["mse"], rel=0.2)
    stored = load_weights(job.output, "")
    assert stored["encoder.0.weight"].dtype == torch.float32


def test_names_of_weights_differ_by_all_that_they_are_trained_with() -> None:
    assert VqVae(noise=0.25).weights_name("mnist") == "vqvae-mnist-0.25"
    assert VqVae(noise=0.5, noise_kind="uniform").weights_name("cifar10") == "vqvae-cifar10-uniform-0.5"
    assert SmallVqVae(noise=0).weights_name("mnist") == "vqvae-mnist-0-hidden16-words24"


def test_held_out_images_are_not_learnt(job_for: JobFor) -> None:
    assert SmallVqVae().train(job_for("mnist"))["training_samples"] == 89
    assert SmallVqVae().train(job_for("cifar10"))["training_samples"] == 91


def test_reconstruction_does_not_depend_on_the_batch(job_for: JobFor) -> None:
    job = job_for("mnist", epochs=4)
    SmallVqVae().train(job)
    defense = SmallVqVae(weights=str(job.output))
    images = blobs(70, 5, SHAPES["mnist"]).images / 255
    before = images.clone()
    together = defense.apply(images, rng(70))
    assert torch.equal(images, before)
    assert together.shape == images.shape
    assert together.dtype == torch.float32
    assert 0 <= float(together.min()) <= float(together.max()) <= 1
    alone = torch.cat([defense.apply(image[None], rng(1)) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not defense.stochastic


def test_weights_of_other_noise_or_shape_are_rejected(job_for: JobFor) -> None:
    job = job_for("mnist")
    SmallVqVae(noise=0.25).train(job)
    defense = SmallVqVae(noise=0.25, weights=str(job.output))
    assert defense.incompatibility((1, 28, 28)) == ""
    assert "vqvae has weights for images of (1, 28, 28), not of (3, 32, 32)" in defense.incompatibility((3, 32, 32))
    assert len(defense.weights_digest()) == 64
    with pytest.raises(ParameterError, match=re.escape(f"give vqvae:noise=0.25,weights={job.output}")):
        SmallVqVae(weights=str(job.output)).weights_digest()
    with pytest.raises(
        ParameterError, match="trained with hidden=16,words=24, not hidden=256,words=512: give vqvae:hid"
    ):
        VqVae(noise=0.25, weights=str(job.output)).weights_digest()
    again = f"advbench train vqvae:noise=0.25,hidden=16,words=24 .*{re.escape(str(job.output))}"
    job.output.unlink()
    with pytest.raises(WeightsError, match=again):
        defense.weights_digest()


@pytest.mark.parametrize("kind", ["missing", "no sidecar", "cut short", "of another network"])
def test_unusable_weights_are_rejected_with_the_command_that_makes_them(kind: str, job_for: JobFor) -> None:
    job = job_for("mnist")
    SmallVqVae().train(job)
    if kind == "missing":
        job.output.unlink()
    elif kind == "no sidecar":
        job.output.with_suffix(".json").unlink()
    elif kind == "cut short":
        job.output.write_bytes(job.output.read_bytes()[:-20])
    else:
        sidecar = json.loads(job.output.with_suffix(".json").read_text())
        vqvae_training.save_weights(job.output, nn.Linear(2, 2).state_dict(), {"image_shape": sidecar["image_shape"]})
    with pytest.raises(
        WeightsError, match=f"advbench train vqvae:noise=0,hidden=16,words=24 .*{re.escape(str(job.output))}"
    ):
        SmallVqVae(weights=str(job.output)).apply(torch.rand(1, 1, 28, 28), rng(1))


def test_noise_without_shipped_weights_names_the_command() -> None:
    with pytest.raises(WeightsError, match=r"'advbench train vqvae:noise=1\.75 --dataset NAME --output FILE"):
        VqVae(noise=1.75).weights_digest()
    with pytest.raises(ParameterError, match="a share, at most 1"):
        VqVae(noise=1.5, noise_kind="salt-and-pepper")
    with pytest.raises(ParameterError, match="must be 'shipped' or the path"):
        VqVae(weights="model.pt")


@pytest.mark.parametrize(
    ("dataset", "noise"), [*((name, noise) for name in SHAPES for noise in (0.0, 0.25, 0.75)), ("mnist", 1.5)]
)
def test_shipped_weights_are_good(dataset: str, noise: float) -> None:
    defense = VqVae(noise=noise)
    sidecar = json.loads((vqvae.SHIPPED_FOLDER / f"{defense.weights_name(dataset)}.json").read_text())
    assert defense.incompatibility(SHAPES[dataset]) == ""
    assert sidecar["epochs"] >= 5
    assert sidecar["perplexity"] > 128
    assert abs(sidecar["classifier_accuracy"] - sidecar["float32"]["classifier_accuracy"]) <= 0.002
    if noise == 0:
        assert sidecar["classifier_accuracy"] >= (0.98 if dataset == "mnist" else 0.2)
        assert sidecar["psnr"] >= 22


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_an_adaptive_attack_finds_a_gradient_through_the_quantisation(dataset: str) -> None:
    images = torch.rand(2, *SHAPES[dataset], generator=torch.Generator().manual_seed(1))
    rng = SampleRandom(0, "defense", range(2))
    points = images.clone().requires_grad_()
    made = VqVae().apply(points, rng)
    assert torch.equal(made.detach(), VqVae().apply(images, rng))
    (gradient,) = torch.autograd.grad(made.square().sum(), points)
    assert gradient.isfinite().all()
    assert gradient.flatten(1).any(dim=1).all()
    assert not VqVae().apply(images, rng).requires_grad


@pytest.mark.parametrize(("kind", "suffix"), [("gaussian", ""), ("uniform", ", noise_kind=uniform")])
def test_noise_without_shipped_weights_names_the_command_and_no_path(kind: str, suffix: str) -> None:
    with pytest.raises(WeightsError) as caught:
        VqVae(noise=1.75, noise_kind=kind).weights_digest()
    message = str(caught.value)
    assert message.startswith(f"no weights for noise=1.75{suffix} come with advbench; 'advbench train vqvae:noise=1.75")
    assert str(vqvae.SHIPPED_FOLDER) not in message
