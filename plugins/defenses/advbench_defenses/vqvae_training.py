"""Training recipes of VQ-VAEs.

The loss is the mean squared error of the reconstruction, on images scaled to [-1, 1], plus the codebook's mean squared
distance from the encoder's vectors, plus beta times the encoder's from the codebook (van den Oord et al. 2017, equation
3). Adam minimises it in batches of 128. Noise is added to the encoder's input; the target is the image without it.

Trained this way alone, a codebook collapses: a few words are nearest to every vector, and the others are never updated.
So the codebook is initialised with the encoder's vectors of one batch, and a word that was recently used for less than
a fifth of an even share is replaced by a vector of the current batch (Dhariwal et al. 2020, Jukebox, section 3.1,
random restarts). Before that, the first 100 batches train encoder and decoder without the codebook: an untrained
encoder's vectors of noisy images differ mostly by the noise, and commitment to words made of them would preserve that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from advbench.api import (
    LabelledImages,
    TrainingJob,
    TrainingLoop,
    bfloat16_helps,
    load_weights,
    one_cycle,
    save_weights,
    widest_float,
)
from advbench_defenses.vqvae_network import VqVaeNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GAUSSIAN", "HIDDEN", "NOISES", "RECIPES", "WORDS", "Variant", "add_noise", "train_vqvae"]

GAUSSIAN, SALT_AND_PEPPER, UNIFORM = "gaussian", "salt-and-pepper", "uniform"
NOISES = (GAUSSIAN, SALT_AND_PEPPER, UNIFORM)

PAPER, SHORT = "paper", "onecycle"
RECIPES: Mapping[str, str] = {
    PAPER: "100 epochs at the constant learning rate 2e-4, as in the study; for an accelerator",
    SHORT: "MNIST 5, CIFAR-10 12 epochs, the learning rate rising to 1e-3 and falling to 0; for machines without an "
    "accelerator",
}
EPOCHS = {PAPER: 100, SHORT: 5}
CIFAR10_EPOCHS = {PAPER: 100, SHORT: 12}
LEARNING_RATE = {PAPER: 2e-4, SHORT: 1e-3}
RISING_SHARE = 0.2
BATCH_SIZE = 128
BETA = 1.0
HIDDEN = 256
WORDS = 512
DEAD_SHARE = 0.2
"""A word is replaced if it is used for less than this share of an even use."""
USAGE_DECAY = 0.95
"""Decay per batch of the running average of a word's use."""
WARM_UP = 100

CLASSIFIERS: Mapping[str, str] = {"mnist": "mnist-cnn", "cifar10": "cifar10-densenet"}
"""The classifier whose accuracy on the reconstructions the sidecar reports."""

HELD_OUT: Mapping[str, str] = {"mnist": "mnist-5k"}
"""Dataset whose images are excluded from the training set."""

EPOCH_TEST_SAMPLES = 2000
"""Number of test images evaluated after each epoch; the sidecar's measures use all."""
TEST_BATCH_SIZE = 250


@dataclass(frozen=True)
class Variant:
    """What distinguishes one VQ-VAE from another of the same recipe.

    Attributes:
        noise: Strength of the noise on training images; see :func:`add_noise`.
        noise_kind: One of :data:`NOISES`.
        hidden: Channels of every layer, and the length of a code word.
        words: Size of the codebook.
    """

    noise: float
    noise_kind: str
    hidden: int
    words: int


def train_vqvae(job: TrainingJob, variant: Variant) -> Mapping[str, Any]:
    """Trains a VQ-VAE and writes its weights, with 8-bit convolutions, their sidecar and checkpoints.

    Args:
        job: Options of the command line.
        variant: The network and its noise.

    Returns:
        The content of the sidecar. It measures the stored 8-bit weights on the whole test set: ``psnr`` in dB,
        ``perplexity`` of the codes, ``classifier_accuracy`` on the reconstructions; ``float32`` has the same for the
        weights before storing.

    Raises:
        UsageError: The checkpoint belongs to another recipe, seed or dataset.
    """
    training_set = job.load_dataset(f"{job.dataset}:split=train")
    test_set = job.load_dataset(f"{job.dataset}:split=test")
    held_out = HELD_OUT.get(job.dataset)
    if held_out is not None:
        training_set = training_set.without(job.load_dataset(held_out))
    epochs = CIFAR10_EPOCHS if job.dataset == "cifar10" else EPOCHS
    recipe: dict[str, Any] = {
        "component": "vqvae",
        "recipe": job.recipe,
        "epochs": epochs[job.recipe] if job.epochs is None else job.epochs,
        "batch_size": BATCH_SIZE,
        "hidden": variant.hidden,
        "words": variant.words,
        "beta": BETA,
        "noise": variant.noise,
        "noise_kind": variant.noise_kind,
        "optimizer": "adam",
        "learning_rate": LEARNING_RATE[job.recipe],
        "schedule": "constant" if job.recipe == PAPER else f"one cycle, rising for {RISING_SHARE:.0%} of the steps",
        "dead_codes": f"replaced below {DEAD_SHARE:.0%} of an even share",
        "warm_up": f"{WARM_UP} batches without the codebook",
        "precision": "bfloat16" if bfloat16_helps(job.device) else "float32",
        "seed": job.seed,
        "data_digest": training_set.digest(),
    }
    classify = _classifier(job)
    training = VqVaeTraining(job, recipe, training_set, test_set, classify)
    training.run()
    training.autocast = None
    network = training.trained.vqvae
    float32_measures = training.measure(network, len(test_set), classify)
    provenance: dict[str, Any] = {
        **training.provenance(),
        "image_shape": list(training_set.images.shape[1:]),
        "training_set": f"{job.dataset}:split=train" + (f" without the images of {held_out}" if held_out else ""),
        "training_samples": len(training_set),
        "test_set": f"{job.dataset}:split=test",
        "float32": float32_measures,
    }
    state = network.state_dict()
    convolutions = [key for key, tensor in state.items() if tensor.ndim == 4]
    save_weights(job.output, state, provenance, eight_bit=convolutions)
    network.load_state_dict(load_weights(job.output, "train again"))
    provenance |= training.measure(network, len(test_set), classify)
    digest = save_weights(job.output, state, provenance, eight_bit=convolutions)
    job.checkpoint.unlink(missing_ok=True)
    return {"sha256": digest, **provenance}


def add_noise(images: torch.Tensor, strength: float, kind: str, generator: torch.Generator) -> torch.Tensor:
    """Adds noise to images; the result may lie outside [0, 1].

    Args:
        images: float32 in [0, 1], any shape.
        strength: Gaussian: the standard deviation; uniform: the half-width, both in units of the network's inputs in
            [-1, 1], which is twice the images' unit. Salt-and-pepper: the share of values that become 0 or 1.
        kind: One of :data:`NOISES`.
        generator: Source of the random numbers; a CPU generator, whatever the images' device.
    """
    if strength == 0:
        return images
    if kind == GAUSSIAN:
        return images + strength / 2 * torch.randn(images.shape, generator=generator).to(images.device)
    drawn = torch.rand(images.shape, generator=generator).to(images.device)
    if kind == UNIFORM:
        return images + strength * (drawn - 0.5)
    salted = torch.where(drawn < strength / 2, 0.0, images)
    return torch.where((drawn >= strength / 2) & (drawn < strength), 1.0, salted)


class _Trained(nn.Module):
    """The network, and each code word's running average of use, where 1 is an even share."""

    shares: torch.Tensor

    def __init__(self, vqvae: VqVaeNetwork) -> None:
        super().__init__()
        self.vqvae = vqvae
        self.register_buffer("shares", torch.zeros(len(vqvae.quantiser.codebook)))


class VqVaeTraining(TrainingLoop):
    """Trains a VQ-VAE.

    Args:
        job: Options of the command line.
        recipe: The recipe, as in :class:`advbench.api.TrainingLoop`.
        training_set: Images to learn.
        test_set: Images that are reconstructed after each epoch; no choice depends on them.
        classify: Classifies reconstructions after each epoch; None to leave that out.
    """

    def __init__(
        self,
        job: TrainingJob,
        recipe: Mapping[str, Any],
        training_set: LabelledImages,
        test_set: LabelledImages,
        classify: Callable[[torch.Tensor], torch.Tensor] | None,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(job.seed)
            network = _Trained(VqVaeNetwork(training_set.images.shape[1], recipe["hidden"], recipe["words"]))
        network = network.to(job.device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(network.parameters(), lr=recipe["learning_rate"])
        super().__init__(job, recipe, len(training_set), network, optimizer)
        self.trained = network
        self.images = training_set.images.to(job.device)
        self.test_set = test_set
        self.classify = classify
        self.words: int = recipe["words"]
        self.noise: tuple[float, str] = (recipe["noise"], recipe["noise_kind"])
        self.autocast = torch.bfloat16 if recipe["precision"] == "bfloat16" else None

    def step(self, number: int, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Takes one Adam step on the batch's loss, then replaces unused words."""
        if self.recipe["recipe"] == SHORT:
            for group in self.optimizer.param_groups:
                group["lr"] = one_cycle(number, self.steps, self.recipe["learning_rate"], RISING_SHARE)
        images = _scaled(self.images[chosen])
        generator = self.generator("noise", number)
        noisy = add_noise(images, *self.noise, generator)
        if number < WARM_UP:
            return self._warm_up(noisy, images)
        if number == WARM_UP:
            self._initialize_codebook(noisy, number)
        with self._autocast():
            reconstructions, quantised = self.trained.vqvae.reconstruct(noisy)
        reconstruction = functional.mse_loss(reconstructions * 2, images * 2)
        codebook = functional.mse_loss(quantised.words, quantised.vectors.detach())
        commitment = functional.mse_loss(quantised.vectors, quantised.words.detach())
        self.optimizer.zero_grad()
        torch.autograd.backward(reconstruction + codebook + self.recipe["beta"] * commitment)
        self.optimizer.step()
        self._update_usage(quantised.codes)
        self._replace_dead_words(quantised.vectors.detach(), number)
        return {"loss": reconstruction.detach(), "commitment": commitment.detach()}

    def evaluate(self) -> Mapping[str, float]:
        """Measures reconstruction quality and codebook use on a part of the test set."""
        return self.measure(self.trained.vqvae, min(EPOCH_TEST_SAMPLES, len(self.test_set)), self.classify)

    @torch.no_grad()
    def measure(
        self, network: VqVaeNetwork, count: int, classify: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> dict[str, float]:
        """Measures reconstructions of the first ``count`` test images.

        Returns:
            For images without noise: ``mse`` of pixels in [0, 1]; ``psnr`` in dB, 10 · log10(1 / mse);
            ``perplexity_clean``, the exponential of the entropy of the codes; with a classifier, its
            ``classifier_accuracy``. For images with the training noise: ``perplexity``.
        """
        error, correct = 0.0, 0
        counts, clean_counts = torch.zeros(2, self.words, dtype=widest_float(self.job.device), device=self.job.device)
        for start in range(0, count, TEST_BATCH_SIZE):
            batch = slice(start, min(start + TEST_BATCH_SIZE, count))
            images = _scaled(self.test_set.images[batch].to(self.job.device))
            with self._autocast():
                reconstructions, quantised = network.reconstruct(images)
                noisy = add_noise(images, *self.noise, self.generator("noise of tests", start))
                noisy_quantised = quantised if noisy is images else network.quantiser(network.encode(noisy))
            error += float((reconstructions - images).square().mean(dim=(1, 2, 3)).cpu().double().sum())
            counts += torch.bincount(noisy_quantised.codes, minlength=self.words)
            clean_counts += torch.bincount(quantised.codes, minlength=self.words)
            if classify is not None:
                correct += int((classify(reconstructions).argmax(1).cpu() == self.test_set.labels[batch]).sum())
        mse = torch.tensor(error / count, dtype=torch.float64)
        measure = {
            "mse": float(mse),
            "psnr": float(-10 * torch.log10(mse)),
            "perplexity": _perplexity(counts),
            "perplexity_clean": _perplexity(clean_counts),
        }
        return measure if classify is None else {**measure, "classifier_accuracy": correct / count}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.job.device.type, dtype=self.autocast, enabled=self.autocast is not None)

    def _update_usage(self, codes: torch.Tensor) -> None:
        usage = torch.bincount(codes, minlength=self.words) * (self.words / len(codes))
        self.trained.shares.mul_(USAGE_DECAY).add_(usage, alpha=1 - USAGE_DECAY)

    def _warm_up(self, noisy: torch.Tensor, images: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Takes one Adam step on encoder and decoder alone."""
        with self._autocast():
            reconstructions = self.trained.vqvae.decode(self.trained.vqvae.encode(noisy))
        reconstruction = functional.mse_loss(reconstructions * 2, images * 2)
        self.optimizer.zero_grad()
        torch.autograd.backward(reconstruction)
        self.optimizer.step()
        return {"loss": reconstruction.detach(), "commitment": torch.zeros_like(reconstruction.detach())}

    def _initialize_codebook(self, images: torch.Tensor, number: int) -> None:
        """Sets all words, none of which has been used yet, to vectors of the batch."""
        with torch.no_grad(), self._autocast():
            vectors = self.trained.vqvae.quantiser(self.trained.vqvae.encode(images)).vectors
        self._replace_dead_words(vectors, number)

    def _replace_dead_words(self, vectors: torch.Tensor, number: int) -> None:
        """Replaces rarely used words by random vectors of the batch."""
        dead = torch.nonzero(self.trained.shares < DEAD_SHARE).squeeze(1)
        if len(dead):
            drawn = torch.randint(len(vectors), (len(dead),), generator=self.generator("codebook", number))
            with torch.no_grad():
                self.trained.vqvae.quantiser.codebook[dead] = vectors[drawn.to(vectors.device)]
            self.trained.shares[dead] = 1


def _perplexity(counts: torch.Tensor) -> float:
    """Returns the exponential of the entropy: the number of words, if evenly used, with the same entropy."""
    return float(torch.exp(torch.special.entr(counts / counts.sum()).sum()))


def _classifier(job: TrainingJob) -> Callable[[torch.Tensor], torch.Tensor] | None:
    name = CLASSIFIERS.get(job.dataset)
    return None if name is None else job.load_model(name)


def _scaled(images: torch.Tensor) -> torch.Tensor:
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images
