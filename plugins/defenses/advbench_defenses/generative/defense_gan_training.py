"""The recipe by which the generator of Defense-GAN is trained.

A non-saturating GAN (Goodfellow et al. 2014) with a penalty on the discriminator's gradient at real images (R1:
Mescheder, Geiger and Nowozin 2018, Which Training Methods for GANs do actually Converge?). The penalty is computed in
every eighth step, with eight times its weight. The generator that is stored has running means of the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from advbench.api import LabelledImages, SampleRandom, TrainingJob, TrainingLoop, load_weights, save_weights
from advbench_defenses.generative.generator import LATENT, Discriminator, Generator
from advbench_defenses.generative.latent_search import nearest_latents

__all__ = ["RECIPES", "train_generator"]

RECIPES: Mapping[str, str] = {"r1": "12 epochs of a non-saturating GAN with a penalty on the discriminator's gradient"}

EPOCHS = 12
BATCH_SIZE = 64
LEARNING_RATE = 5e-4
DECAYING_SHARE = 0.4
"""The learning rate falls to 0 in this share of the steps."""
PENALTY = 1.0
PENALTY_EVERY = 8
AVERAGING = 0.998
"""Decay per step of the running means of the weights."""

HELD_OUT: Mapping[str, str] = {"mnist": "mnist-5k"}
"""Dataset whose images are excluded from the training set."""
CLASSIFIER = "mnist-cnn"
"""The classifier whose accuracy on reconstructions the sidecar reports."""

TEST_SAMPLES, TEST_STEPS, TEST_RESTARTS = 200, 100, 4


def train_generator(job: TrainingJob) -> Mapping[str, Any]:
    """Trains a generator and writes its weights, their sidecar and checkpoints.

    Args:
        job: Options of the command line.

    Returns:
        The content of the sidecar. It has the ``psnr`` in dB of reconstructed test images, and the
        ``classifier_accuracy`` of ``mnist-cnn`` on them.

    Raises:
        UsageError: The checkpoint belongs to another recipe, seed or dataset.
    """
    training_set = job.load_dataset(f"{job.dataset}:split=train").without(job.load_dataset(HELD_OUT[job.dataset]))
    recipe: dict[str, Any] = {
        "component": "defense-gan",
        "recipe": job.recipe,
        "epochs": EPOCHS if job.epochs is None else job.epochs,
        "batch_size": BATCH_SIZE,
        "loss": f"non-saturating, with {PENALTY:g} / 2 times the squared gradient of the discriminator at real images",
        "optimizer": "adam, betas 0.5 and 0.99",
        "learning_rate": LEARNING_RATE,
        "schedule": f"constant, falling to 0 in the last {DECAYING_SHARE:.0%} of the steps",
        "averaging": AVERAGING,
        "seed": job.seed,
        "data_digest": training_set.digest(),
    }
    test_set = job.load_dataset(f"{job.dataset}:split=test")
    training = _GanTraining(job, recipe, training_set, test_set, job.load_model(CLASSIFIER))
    training.run()
    generator = training.parts.averaged.folded()
    state = generator.state_dict()
    matrices = [key for key, tensor in state.items() if tensor.ndim > 1]
    save_weights(job.output, state, {}, eight_bit=matrices)
    generator.load_state_dict(load_weights(job.output, "train again"))
    provenance = {
        **training.provenance(),
        "image_shape": list(training_set.images.shape[1:]),
        "training_set": f"{job.dataset}:split=train without the images of {HELD_OUT[job.dataset]}",
        "training_samples": len(training_set),
        "test_set": f"the first {TEST_SAMPLES} images of {job.dataset}:split=test, L={TEST_STEPS}, R={TEST_RESTARTS}",
        **training.measure(generator),
    }
    digest = save_weights(job.output, state, provenance, eight_bit=matrices)
    job.checkpoint.unlink(missing_ok=True)
    return {"sha256": digest, **provenance}


class _Parts(nn.Module):
    """All that is trained, and the generator with running means of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = Generator(normalise=True)
        self.discriminator = Discriminator()
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False)


class _GanTraining(TrainingLoop):
    """Trains a generator and its discriminator, each with one step for a batch.

    Args:
        job: Options of the command line.
        recipe: The recipe, as in :class:`advbench.api.TrainingLoop`.
        training_set: Images to imitate.
        test_set: Images that are reconstructed after each epoch; no choice depends on them.
        classify: Classifies reconstructions.
    """

    def __init__(
        self,
        job: TrainingJob,
        recipe: Mapping[str, Any],
        training_set: LabelledImages,
        test_set: LabelledImages,
        classify: nn.Module,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(job.seed)
            self.parts = _Parts().to(job.device)
        # One optimiser for both: it leaves weights without a gradient alone.
        trained = [*self.parts.generator.parameters(), *self.parts.discriminator.parameters()]
        optimizer = torch.optim.Adam(trained, lr=LEARNING_RATE, betas=(0.5, 0.99))
        super().__init__(job, recipe, len(training_set), self.parts, optimizer)
        self.images = training_set.images.to(job.device)
        self.classify = classify
        self.test_labels = test_set.labels[:TEST_SAMPLES].to(job.device)
        self.test_images = _in_unit_range(test_set.images[:TEST_SAMPLES].to(job.device))

    def step(self, number: int, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Takes one step of the discriminator and one of the generator, with the same latent vectors."""
        left = (self.steps - number) / (DECAYING_SHARE * self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, left)
        latents = torch.randn(len(chosen), LATENT, generator=self.generator("latents", number)).to(self.job.device)
        generator, discriminator = self.parts.generator, self.parts.discriminator
        made, real = generator(latents), _in_unit_range(self.images[chosen])
        punished = number % PENALTY_EVERY == 0
        judged = discriminator(real.requires_grad_(punished))
        loss = functional.softplus(-judged).mean() + functional.softplus(discriminator(made.detach())).mean()
        total = loss
        if punished:
            (slope,) = torch.autograd.grad(judged.sum(), real, create_graph=True)
            total = loss + PENALTY_EVERY * PENALTY / 2 * slope.square().flatten(1).sum(dim=1).mean()
        self._update(total, discriminator)
        generator_loss = functional.softplus(-discriminator(made)).mean()
        self._update(generator_loss, generator)
        self._average()
        return {"loss": generator_loss.detach(), "discriminator": loss.detach()}

    def evaluate(self) -> Mapping[str, float]:
        """Measures reconstructions of test images by the averaged generator."""
        return self.measure(self.parts.averaged.folded())

    def measure(self, generator: Generator) -> dict[str, float]:
        """The PSNR of reconstructed test images, and the classifier's accuracy on them."""
        starts = SampleRandom(0, "test latents", range(len(self.test_images))).normal(TEST_RESTARTS, LATENT)
        generator.requires_grad_(False)
        latents = nearest_latents(generator, self.test_images, starts.to(self.job.device), TEST_STEPS)
        with torch.no_grad():
            images = generator(latents)
            correct = self.classify(images).argmax(dim=1) == self.test_labels
            error = (images - self.test_images).square().mean()
        return {"psnr": float(-10 * error.log10()), "classifier_accuracy": float(correct.double().mean())}

    def _update(self, loss: torch.Tensor, part: nn.Module) -> None:
        """Takes one gradient step of a part alone."""
        self.optimizer.zero_grad()
        torch.autograd.backward(loss, inputs=list(part.parameters()))
        self.optimizer.step()

    @torch.no_grad()
    def _average(self) -> None:
        for mean, value in zip(
            self.parts.averaged.state_dict().values(), self.parts.generator.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - AVERAGING)
            else:
                mean.copy_(value)


def _in_unit_range(images: torch.Tensor) -> torch.Tensor:
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images
