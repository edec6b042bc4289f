"""The recipes by which VQ-VAEs are trained.

The loss is the mean squared error of the reconstruction, on images scaled to [-1, 1], plus the codebook's and
beta times the encoder's mean squared distance from each other (van den Oord et al. 2017, equation 3), minimised
by Adam in batches of 128. Where there is noise it is added to what the encoder sees; what it has to reconstruct
is the image without it.

A codebook trained so collapses: a few words win every vector, and those that win none are never moved. So the
codebook begins as vectors that the encoder makes of a batch, and a word that lately won less than a fifth of its
even share becomes one of the current batch's (Dhariwal et al. 2020, Jukebox, section 3.1, random restarts).
Before that, the first 100 batches train encoder and decoder without the codebook: an untrained encoder's vectors
of noisy images differ by the noise, and commitment to words made of them would keep it so.
"""

from __future__ import annotations

from collections.abc import Mapping
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
)
from advbench_defenses.vqvae_network import VqVaeNetwork

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GAUSSIAN", "NOISES", "RECIPES", "add_noise", "train_vqvae"]

GAUSSIAN, SALT_AND_PEPPER, UNIFORM = "gaussian", "salt-and-pepper", "uniform"
NOISES = (GAUSSIAN, SALT_AND_PEPPER, UNIFORM)

PAPER, SHORT = "paper", "onecycle"
RECIPES: Mapping[str, str] = {
    PAPER: "100 epochs at the constant learning rate 2e-4, as in the study; for an accelerator",
    SHORT: "5 epochs, the learning rate rising to 1e-3 and falling to 0; for machines without an accelerator",
}
EPOCHS = {PAPER: 100, SHORT: 5}
LEARNING_RATE = {PAPER: 2e-4, SHORT: 1e-3}
RISE = 0.2
BATCH_SIZE = 128
BETA = 1.0
HIDDEN = 256
WORDS = 512
SHARE = 0.2
"""A word is replaced when it wins less than this share of what would be even."""
MEMORY = 0.95
"""How much of a word's running share a batch leaves."""
WARM_UP = 100

CLASSIFIERS: Mapping[str, str] = {"mnist": "mnist-cnn", "cifar10": "cifar10-densenet"}
"""Whose accuracy on the reconstructions the sidecar reports."""

HELD_OUT: Mapping[str, str] = {"mnist": "mnist-5k"}
"""Images of a training set that are left out of it, since they serve as a dataset of their own."""

EVALUATED_WITHIN = 2000
"""How many test images the figures after each epoch are of; those in the sidecar are of all."""
TEST_BATCH_SIZE = 250


def train_vqvae(job: TrainingJob, noise: float, noise_kind: str) -> Mapping[str, Any]:
    """Trains a VQ-VAE and writes its weights, convolutions in 8 bits, their sidecar and checkpoints.

    Args:
        job: What the command line asks for.
        noise: Strength of the noise on training images; see :func:`add_noise`.
        noise_kind: One of :data:`NOISES`.

    Returns:
        What the sidecar says. Its figures are of the stored 8-bit weights on the whole test set: ``psnr`` in dB,
        ``perplexity`` of the codes, ``classifier_accuracy`` on the reconstructions; ``float32`` has those of the
        weights before they were stored.

    Raises:
        UsageError: The checkpoint belongs to another recipe, seed or data.
    """
    training_set = job.load_dataset(f"{job.dataset}:split=train")
    test_set = job.load_dataset(f"{job.dataset}:split=test")
    held_out = HELD_OUT.get(job.dataset)
    if held_out is not None:
        training_set = training_set.without(job.load_dataset(held_out))
    recipe: dict[str, Any] = {
        "component": "vqvae",
        "recipe": job.recipe,
        "epochs": EPOCHS[job.recipe] if job.epochs is None else job.epochs,
        "batch_size": BATCH_SIZE,
        "hidden": HIDDEN,
        "words": WORDS,
        "beta": BETA,
        "noise": noise,
        "noise_kind": noise_kind,
        "optimizer": "adam",
        "learning_rate": LEARNING_RATE[job.recipe],
        "schedule": "constant" if job.recipe == PAPER else f"one cycle, rising for {RISE:.0%} of the steps",
        "dead_codes": f"replaced below {SHARE:.0%} of an even share",
        "warm_up": f"{WARM_UP} batches without the codebook",
        "precision": "bfloat16" if bfloat16_helps(job.device) else "float32",
        "seed": job.seed,
        "data_digest": training_set.digest(),
    }
    training = VqVaeTraining(job, recipe, training_set, test_set)
    training.run()
    training.autocast = None
    network = training.trained.vqvae
    classify = _classifier(job)
    before = training.figures(network, len(test_set), classify)
    provenance: dict[str, Any] = {
        **training.provenance(),
        "image_shape": list(training_set.images.shape[1:]),
        "training_set": f"{job.dataset}:split=train" + (f" without the images of {held_out}" if held_out else ""),
        "training_samples": len(training_set),
        "test_set": f"{job.dataset}:split=test",
        "float32": before,
    }
    state = network.state_dict()
    convolutions = [key for key, tensor in state.items() if tensor.ndim == 4]
    save_weights(job.output, state, provenance, eight_bit=convolutions)
    network.load_state_dict(load_weights(job.output, "train again"))
    provenance |= training.figures(network, len(test_set), classify)
    digest = save_weights(job.output, state, provenance, eight_bit=convolutions)
    job.checkpoint.unlink(missing_ok=True)
    return {"sha256": digest, **provenance}


def add_noise(images: torch.Tensor, strength: float, kind: str, generator: torch.Generator) -> torch.Tensor:
    """Images with noise, which may leave [0, 1].

    Args:
        images: float32 in [0, 1], any shape.
        strength: Gaussian: the standard deviation; uniform: the half-width, both in units of the network's inputs,
            which run from -1 to 1: of images half as much. Salt-and-pepper: the share of values that become 0 or 1.
        kind: One of :data:`NOISES`.
        generator: Where the random numbers come from; a generator of the CPU, whatever the images' device.
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
    """The network, and for each code word the running share of vectors that it wins, 1 being even."""

    shares: torch.Tensor

    def __init__(self, vqvae: VqVaeNetwork) -> None:
        super().__init__()
        self.vqvae = vqvae
        self.register_buffer("shares", torch.zeros(WORDS))


class VqVaeTraining(TrainingLoop):
    """Trains a VQ-VAE on images; takes what :class:`advbench.api.TrainingLoop` takes, and the images."""

    def __init__(
        self, job: TrainingJob, recipe: Mapping[str, Any], training_set: LabelledImages, test_set: LabelledImages
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(job.seed)
            network = _Trained(VqVaeNetwork(training_set.images.shape[1], HIDDEN, WORDS))
        network = network.to(job.device).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(network.parameters(), lr=recipe["learning_rate"])
        super().__init__(job, recipe, len(training_set), network, optimizer)
        self.trained = network
        self.images = training_set.images.to(job.device)
        self.test_set = test_set
        self.noise: tuple[float, str] = (recipe["noise"], recipe["noise_kind"])
        self.autocast = torch.bfloat16 if recipe["precision"] == "bfloat16" else None

    def step(self, number: int, chosen: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """One step of Adam on the batch's loss, then new words for those that win nothing."""
        if self.recipe["recipe"] == SHORT:
            for group in self.optimizer.param_groups:
                group["lr"] = one_cycle(number, self.steps, self.recipe["learning_rate"], RISE)
        images = _scaled(self.images[chosen])
        generator = self.generator("noise", number)
        noisy = add_noise(images, *self.noise, generator)
        if number < WARM_UP:
            return self._warm_up(noisy, images)
        if number == WARM_UP:
            self._begin_codebook(noisy, number)
        with self._mixed():
            made, quantised = self.trained.vqvae.reconstruct(noisy)
        reconstruction = functional.mse_loss(made * 2, images * 2)
        codebook = functional.mse_loss(quantised.words, quantised.vectors.detach())
        commitment = functional.mse_loss(quantised.vectors, quantised.words.detach())
        self.optimizer.zero_grad()
        torch.autograd.backward(reconstruction + codebook + self.recipe["beta"] * commitment)
        self.optimizer.step()
        self._note_use(quantised.codes)
        self._replace(quantised.vectors.detach(), number)
        return {"loss": reconstruction.detach(), "commitment": commitment.detach()}

    def evaluate(self) -> Mapping[str, float]:
        """How well a part of the test set is reconstructed, and how evenly the codebook is used."""
        return self.figures(self.trained.vqvae, min(EVALUATED_WITHIN, len(self.test_set)), None)

    @torch.no_grad()
    def figures(
        self, network: VqVaeNetwork, count: int, classify: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> dict[str, float]:
        """Measures reconstructions of the first ``count`` test images without noise.

        Returns:
            Of reconstructions of clean images: ``mse`` of pixels in [0, 1]; ``psnr`` in dB, 10 · log10(1 / mse);
            ``perplexity_clean``, the exponential of the entropy of the codes; with a classifier, its
            ``classifier_accuracy``. Of images with the noise of the training: ``perplexity``.
        """
        error, right = 0.0, 0
        used, used_clean = torch.zeros(2, WORDS, dtype=torch.float64, device=self.job.device)
        for start in range(0, count, TEST_BATCH_SIZE):
            batch = slice(start, min(start + TEST_BATCH_SIZE, count))
            images = _scaled(self.test_set.images[batch].to(self.job.device))
            with self._mixed():
                made, quantised = network.reconstruct(images)
                noisy = add_noise(images, *self.noise, self.generator("noise of tests", start))
                as_trained = quantised if noisy is images else network.quantiser(network.encode(noisy))
            error += float((made - images).square().mean(dim=(1, 2, 3)).double().sum())
            used += torch.bincount(as_trained.codes, minlength=WORDS)
            used_clean += torch.bincount(quantised.codes, minlength=WORDS)
            if classify is not None:
                right += int((classify(made).argmax(1).cpu() == self.test_set.labels[batch]).sum())
        mse = torch.tensor(error / count, dtype=torch.float64)
        figures = {
            "mse": float(mse),
            "psnr": float(-10 * torch.log10(mse)),
            "perplexity": _perplexity(used),
            "perplexity_clean": _perplexity(used_clean),
        }
        return figures if classify is None else {**figures, "classifier_accuracy": right / count}

    def _mixed(self) -> torch.autocast:
        return torch.autocast(self.job.device.type, dtype=self.autocast, enabled=self.autocast is not None)

    def _note_use(self, codes: torch.Tensor) -> None:
        won = torch.bincount(codes, minlength=WORDS) * (WORDS / len(codes))
        self.trained.shares.mul_(MEMORY).add_(won, alpha=1 - MEMORY)

    def _warm_up(self, noisy: torch.Tensor, images: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """One step of Adam for the autoencoder alone."""
        with self._mixed():
            made = self.trained.vqvae.decode(self.trained.vqvae.encode(noisy))
        reconstruction = functional.mse_loss(made * 2, images * 2)
        self.optimizer.zero_grad()
        torch.autograd.backward(reconstruction)
        self.optimizer.step()
        return {"loss": reconstruction.detach(), "commitment": torch.zeros_like(reconstruction.detach())}

    def _begin_codebook(self, images: torch.Tensor, number: int) -> None:
        """Makes all words, which have won nothing yet, vectors of the batch."""
        with torch.no_grad(), self._mixed():
            vectors = self.trained.vqvae.quantiser(self.trained.vqvae.encode(images)).vectors
        self._replace(vectors, number)

    def _replace(self, vectors: torch.Tensor, number: int) -> None:
        """Makes vectors of the batch, drawn at random, the words that win too little."""
        dead = torch.nonzero(self.trained.shares < SHARE).squeeze(1)
        if len(dead):
            drawn = torch.randint(len(vectors), (len(dead),), generator=self.generator("codebook", number))
            with torch.no_grad():
                self.trained.vqvae.quantiser.codebook[dead] = vectors[drawn.to(vectors.device)]
            self.trained.shares[dead] = 1


def _perplexity(used: torch.Tensor) -> float:
    """The exponential of the entropy: how many words, if evenly used, would be as many."""
    return float(torch.exp(torch.special.entr(used / used.sum()).sum()))


def _classifier(job: TrainingJob) -> Callable[[torch.Tensor], torch.Tensor] | None:
    name = CLASSIFIERS.get(job.dataset)
    return None if name is None else job.load_model(name)


def _scaled(images: torch.Tensor) -> torch.Tensor:
    return images.to(torch.float32) / 255 if images.dtype == torch.uint8 else images
