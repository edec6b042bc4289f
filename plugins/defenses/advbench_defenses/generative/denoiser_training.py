"""The recipe by which denoising autoencoders are trained.

Each image gets Gaussian noise whose standard deviation is drawn anew, up to a largest one. The network learns to give
back the image; the loss is the binary cross-entropy of its pixels. With the mean squared error, whose gradient is 0
where a pixel saturates, networks for MNIST learn nothing but black images. A network that has only seen one strength of
noise blurs images that have less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from advbench.api import LabelledImages, TrainingJob, TrainingLoop, load_weights, one_cycle, save_weights
from advbench_defenses.generative.denoiser_network import DenoiserNetwork

__all__ = ["RECIPES", "train_denoiser"]

RECIPES: Mapping[str, str] = {"noise": "MNIST 4, CIFAR-10 3 epochs on Gaussian noise of changing strength"}

EPOCHS: Mapping[str, int] = {"mnist": 4, "cifar10": 3}
STRENGTHS: Mapping[str, float] = {"mnist": 0.5, "cifar10": 0.2}
"""The largest standard deviation of the noise, for pixels in [0, 1]."""
BATCH_SIZE = 128
LEARNING_RATE = 2e-3
RISING_SHARE = 0.2

HELD_OUT: Mapping[str, str] = {"mnist": "mnist-5k"}
"""Dataset whose images are excluded from the training set."""

TEST_SAMPLES = 2000
TEST_BATCH_SIZE = 250


def train_denoiser(job: TrainingJob) -> Mapping[str, Any]:
    """Trains an autoencoder and writes its weights, their sidecar and checkpoints.

    Args:
        job: Options of the command line.

    Returns:
        The content of the sidecar. It has the ``psnr`` in dB of test images with half of the largest noise, before
        (``psnr_noisy``) and after the network, and of clean ones after it (``psnr_clean``).

    Raises:
        UsageError: The checkpoint belongs to another recipe, seed or dataset.
    """
    training_set = job.load_dataset(f"{job.dataset}:split=train")
    held_out = HELD_OUT.get(job.dataset)
    if held_out is not None:
        training_set = training_set.without(job.load_dataset(held_out))
    recipe: dict[str, Any] = {
        "component": "denoiser",
        "recipe": job.recipe,
        "epochs": EPOCHS[job.dataset] if job.epochs is None else job.epochs,
        "batch_size": BATCH_SIZE,
        "noise": f"Gaussian, of a standard deviation up to {STRENGTHS[job.dataset]}",
        "loss": "binary cross-entropy of pixels",
        "optimizer": "adam",
        "learning_rate": LEARNING_RATE,
        "schedule": f"one cycle, rising for {RISING_SHARE:.0%} of the steps",
        "seed": job.seed,
        "data_digest": training_set.digest(),
    }
    training = _DenoiserTraining(job, recipe, training_set, job.load_dataset(f"{job.dataset}:split=test"))
    training.run()
    state = training.network.state_dict()
    convolutions = [key for key, tensor in state.items() if tensor.ndim == 4]
    save_weights(job.output, state, {}, eight_bit=convolutions)
    training.network.load_state_dict(load_weights(job.output, "train again"))
    figures = training.evaluate()
    provenance = {
        **training.provenance(),
        "image_shape": list(training_set.images.shape[1:]),
        "training_set": f"{job.dataset}:split=train" + (f" without the images of {held_out}" if held_out else ""),
        "training_samples": len(training_set),
        "test_set": f"the first {TEST_SAMPLES} images of {job.dataset}:split=test",
        **figures,
    }
    digest = save_weights(job.output, state, provenance, eight_bit=convolutions)
    job.checkpoint.unlink(missing_ok=True)
    return {"sha256": digest, **provenance}


class _DenoiserTraining(TrainingLoop):
    """Trains a denoising autoencoder.

    Args:
        job: Options of the command line.
        recipe: The recipe, as in :class:`advbench.api.TrainingLoop`.
        training_set: Images to learn.
        test_set: Images that are denoised after each epoch; no choice depends on them.
    """

    def __init__(
        self, job: TrainingJob, recipe: Mapping[str, Any], training_set: LabelledImages, test_set: LabelledImages
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(job.seed)
            network = DenoiserNetwork(training_set.images.shape[1])
        network = network.to(job.device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        super().__init__(job, recipe, len(training_set), network, optimizer)
        self.images = training_set.images.to(job.device)
        self.test_images = test_set.images[:TEST_SAMPLES].to(job.device)
        self.strength = STRENGTHS[job.dataset]

    def step(self, number: int, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Takes one gradient step on the binary cross-entropy of the pixels."""
        for group in self.optimizer.param_groups:
            group["lr"] = one_cycle(number, self.steps, LEARNING_RATE, RISING_SHARE)
        images, generator = _in_unit_range(self.images[chosen]), self.generator("noise", number)
        strengths = self.strength * torch.rand(len(images), 1, 1, 1, generator=generator)
        noise = (strengths * torch.randn(images.shape, generator=generator)).to(images.device)
        logits = self.network.logits((images + noise).clamp(0, 1))  # type: ignore[operator]  # of DenoiserNetwork
        loss = functional.binary_cross_entropy_with_logits(logits, images)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return {"loss": loss.detach()}

    @torch.no_grad()
    def evaluate(self) -> Mapping[str, float]:
        """The peak signal-to-noise ratios of noisy images, of denoised ones, and of clean ones after the network."""
        generator = self.generator("test noise", 0)
        errors = torch.zeros(3, dtype=torch.float64)
        for part in torch.split(self.test_images, TEST_BATCH_SIZE):
            images = _in_unit_range(part)
            noise = torch.randn(images.shape, generator=generator).to(images.device)
            noisy = (images + self.strength / 2 * noise).clamp(0, 1)
            for index, found in enumerate((noisy, self.network(noisy), self.network(images))):
                errors[index] += float((found - images).square().mean(dim=(1, 2, 3)).sum())
        ratios = -10 * (errors / len(self.test_images)).log10()
        return dict(zip(("psnr_noisy", "psnr", "psnr_clean"), ratios.tolist(), strict=True))


def _in_unit_range(images: torch.Tensor) -> torch.Tensor:
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images
