"""Defense-GAN: what its search reaches, its gradient, its training, and its errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.training import assert_interruption_changes_nothing, make_job

from advbench.api import DataSources, LabelledImages, ParameterError, SampleRandom, WeightsError
from advbench_datasets.mnist_20 import Mnist20
from advbench_defenses.generative import defense_gan_training
from advbench_defenses.generative.defense_gan import DefenseGan
from advbench_defenses.generative.generator import LATENT, Generator
from advbench_defenses.generative.latent_search import nearest_latents, squared_errors
from advbench_defenses.generative.tangent_projection import DAMPING, project_on_tangents

pytestmark = pytest.mark.slow


def streams(count: int = 6) -> SampleRandom:
    return SampleRandom(0, "defense", range(count))


@pytest.fixture(scope="module")
def generator() -> Generator:
    return DefenseGan()._generator(torch.device("cpu"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    images, _ = Mnist20().load(DataSources(tmp_path_factory.mktemp("data"), download=False)).take(range(6))
    return images


def test_images_of_the_generator_come_back(generator: Generator) -> None:
    made = generator(torch.randn(3, LATENT, generator=torch.Generator().manual_seed(0)))
    errors = squared_errors(DefenseGan(R=6).apply(made, streams(3)), made)
    assert (errors < 0.03 * made.square().flatten(1).sum(dim=1)).all()


def test_a_result_depends_on_its_sample_alone_and_not_on_the_callers_mode(digits: torch.Tensor) -> None:
    defense = DefenseGan(L=15, R=3)
    together = defense.apply(digits, streams())
    backwards = defense.apply(digits.flip(0), SampleRandom(0, "defense", range(5, -1, -1))).flip(0)
    alone = torch.cat([defense.apply(digits[i : i + 1], SampleRandom(0, "defense", [i])) for i in range(6)])
    torch.testing.assert_close(backwards, together, rtol=0, atol=1e-4)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-4)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert torch.equal(defense.apply(digits, streams()), together)
            assert not torch.is_grad_enabled()
    other = defense.apply(digits, SampleRandom(1, "defense", range(6)))
    assert not torch.equal(other, together)
    assert not together.requires_grad
    assert defense.apply(digits[:0], SampleRandom(0, "defense", [])).shape == (0, 1, 28, 28)


def test_more_restarts_and_more_steps_bring_results_nearer(digits: torch.Tensor) -> None:
    def errors(steps: int, restarts: int) -> torch.Tensor:
        return squared_errors(DefenseGan(L=steps, R=restarts).apply(digits, streams()), digits)

    few, many, longer = errors(20, 1), errors(20, 3), errors(60, 3)
    assert (many <= few + 1e-3).all()  # the first start is the same
    assert many.mean() < few.mean()
    assert longer.mean() < many.mean()


def test_the_gradient_is_the_projection_on_the_tangent_space(generator: Generator, digits: torch.Tensor) -> None:
    latents = nearest_latents(generator, digits[:2], torch.zeros(2, 1, LATENT), 10)
    exact = [torch.autograd.functional.jacobian(lambda z: generator(z[None]).flatten(), one) for one in latents]
    jacobians = torch.stack([one for one in exact if isinstance(one, torch.Tensor)])
    torch.testing.assert_close(generator.jacobians(latents), jacobians, rtol=1e-4, atol=1e-5)
    leaf = digits[:2].clone().requires_grad_()
    output = project_on_tangents(generator, latents, leaf)
    assert torch.equal(output.detach(), generator(latents))
    direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((output * direction).sum(), leaf)
    for jacobian, gradient, weight in zip(jacobians.double(), found, direction.double(), strict=True):
        damped = jacobian.T @ jacobian + DAMPING * torch.eye(LATENT, dtype=torch.float64)
        expected = jacobian @ torch.linalg.solve(damped, jacobian.T @ weight.flatten())
        torch.testing.assert_close(gradient.flatten().double(), expected, rtol=1e-3, atol=1e-3)


def test_adaptive_attacks_have_two_gradients(digits: torch.Tensor) -> None:
    defense = DefenseGan(L=5, R=2)
    assert len(defense.approximations()) == 2
    for approximation in defense.approximations():
        leaf = digits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            approximation(leaf, defense.apply(digits, streams()), streams()).square().sum(), leaf
        )
        assert gradient.isfinite().all()
        assert gradient.flatten(1).any(dim=1).all()


def test_a_generator_without_its_normalisation_generates_the_same() -> None:
    whole, latents = Generator(normalise=True), torch.randn(5, LATENT)
    for _ in range(3):
        whole(torch.randn(40, LATENT) + 1)  # running means and variances that matter
    whole.eval()
    with torch.no_grad():
        torch.testing.assert_close(whole.folded()(latents), whole(latents))


def small(count: int, first: int) -> LabelledImages:
    generator = torch.Generator().manual_seed(first)
    images = torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return LabelledImages(images, torch.zeros(count, dtype=torch.int64), torch.arange(first, first + count))


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defense_gan_training, "BATCH_SIZE", 16)
    monkeypatch.setattr(defense_gan_training, "TEST_STEPS", 2)
    train = small(80, 0)
    held_out = LabelledImages(train.images[:7], train.labels[:7], torch.arange(7))
    data = {"mnist:split=train": train, "mnist:split=test": small(3, 1000), "mnist-5k": held_out}
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    job = make_job(tmp_path / "one.safetensors", data, {"mnist-cnn": model}, dataset="mnist", epochs=2)
    assert_interruption_changes_nothing(DefenseGan(), job, 5)
    job.output.unlink()
    sidecar = DefenseGan().train(job)
    assert sidecar["training_samples"] == 73
    assert len(sidecar["history"]) == 2
    assert 0 < sidecar["psnr"] < 20
    images = torch.rand(2, 1, 28, 28)
    own = DefenseGan(L=2, weights=str(job.output)).apply(images, streams(2))
    assert not torch.equal(own, DefenseGan(L=2).apply(images, streams(2)))


def test_what_it_cannot_take_is_refused(tmp_path: Path) -> None:
    assert not DefenseGan().incompatibility((1, 28, 28))
    message = "defense-gan has a generator for images of (1, 28, 28), not of (3, 32, 32)"
    assert DefenseGan().incompatibility((3, 32, 32)) == message
    with pytest.raises(ParameterError, match="L=0: must be a whole number of at least 1"):
        DefenseGan(L=0)
    with pytest.raises(ParameterError, match=r"weights=mine\.pt: must be 'shipped' or the path of a \.safetensors"):
        DefenseGan(weights="mine.pt")
    with pytest.raises(WeightsError, match=r"'advbench train defense-gan --output .*' makes them"):
        DefenseGan(weights=str(tmp_path / "none.safetensors")).weights_digest()
