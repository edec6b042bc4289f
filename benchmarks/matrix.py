"""Compares the paper's MNIST matrix with two scripts that do the same with Foolbox and loops over images."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch

from advbench.api import Defense, SampleRandom
from advbench.discovery.loading import discover
from advbench.specs import resolve_one
from benchmarks.command import advbench
from benchmarks.defenses import Images, gaussian_loop, jpeg_loop, kmeans_loop, tv_loop
from benchmarks.peers import foolbox_peer
from benchmarks.samples import Samples, load_samples
from benchmarks.settings import Settings
from benchmarks.tables import Table

__all__ = ["measure"]

ATTACKS = ("fgsm minimal", "pgd minimal", "deepfool", "cw")
PGD_GRID = 30
"""Number of parts into which the scripts divide eps .3 for PGD; matching advbench's distances would need far more."""

DEFENSES = (
    "none", "jpeg:quality=90", "gaussian:sigma_x=0,sigma_y=0.3", "kmeans:clusters=16", "kmeans:clusters=50",
    "tvm:drop=0.5,weight=0.03", "vqvae:noise=0", "vqvae:noise=0.25", "vqvae:noise=0.75",
)  # fmt: skip
HEADERS = ("who", "seconds", "advbench's share", "of which attacks", "of which defenses")


def measure(arguments: argparse.Namespace) -> Table:
    """Times advbench, then the parts of the scripts.

    Script (b) attacks once and scores the images with every defense. Script (a) attacks again for each defense, with
    the same calls, so its time is (b)'s with the attacks' part multiplied by the number of defenses.
    """
    limit = min(arguments.limit, 1000)
    with tempfile.TemporaryDirectory() as store:
        words = ["matrix", "--suite", "paper-mnist", "--datasets", "mnist-5k", "--limit", limit, "--store", store]
        ours = advbench([*words, "--seed", arguments.seed, "--device", arguments.device, "--rerun", "all"])
    samples = load_samples(
        "mnist-cnn", "mnist-5k", limit, seed=arguments.seed, device=arguments.device, data_dir=arguments.data_dir
    )
    attack_seconds, crafted = _attack(samples, arguments)
    defense_seconds = _defend(samples, crafted, arguments.seed)
    rows = [["advbench matrix", ours.seconds, 1.0, None, None]]
    for name, script_attack_seconds in (
        ("(a) Foolbox again for each defense", attack_seconds * len(DEFENSES)),
        ("(b) Foolbox once", attack_seconds),
    ):
        seconds = script_attack_seconds + defense_seconds
        rows.append([name, seconds, ours.seconds / seconds, script_attack_seconds, defense_seconds])
    note = (
        f"{limit} images, 4 minimal attacks x {len(DEFENSES)} defenses. advbench: the command, with start, checks, "
        "store and leaderboard. The scripts search for the smallest eps of FGSM among 1,000 values and of PGD among "
        f"{PGD_GRID} values up to .3, which is coarser than advbench. They call the libraries once per image for "
        "k-means, JPEG and Gaussian, use scikit-image without a mask for total variation, and advbench's VQ-VAE."
    )
    return Table("The paper's matrix", note, HEADERS, rows)


def _attack(samples: Samples, arguments: argparse.Namespace) -> tuple[float, list[torch.Tensor]]:
    """Returns the seconds of Foolbox's attacks, and their images."""
    fine = foolbox_peer.attacks(Settings(deepfool_steps=100))
    coarse = foolbox_peer.attacks(Settings(grid=round(PGD_GRID / 0.3)))
    start_time, crafted = time.perf_counter(), []
    for name in ATTACKS:
        run = (coarse if name == "pgd minimal" else fine)[name]
        size = arguments.batch_size
        batches = zip(torch.split(samples.images, size), torch.split(samples.labels, size), strict=True)
        crafted.append(torch.cat([run(samples.network, *batch).detach() for batch in batches]))
    return time.perf_counter() - start_time, crafted


def _defend(samples: Samples, crafted: list[torch.Tensor], seed: int) -> float:
    """Returns the seconds to predict clean and adversarial images with all defenses, image by image."""
    start_time = time.perf_counter()
    for images in (samples.images, *crafted):
        plain = images.cpu().numpy()
        for spec in DEFENSES:
            defended = torch.from_numpy(_loop(spec, seed)(plain)).to(samples.images.device)
            with torch.no_grad():
                for batch in torch.split(defended, 250):
                    samples.network(batch).argmax(dim=1).tolist()
    return time.perf_counter() - start_time


def _loop(spec: str, seed: int) -> Callable[[Images], Images]:
    """Returns what a simple script does for a defense."""
    kind = spec.partition(":")[0]
    if kind == "jpeg":
        return jpeg_loop(90)
    if kind == "gaussian":
        return gaussian_loop(0.3)
    if kind == "kmeans":
        return kmeans_loop(int(spec.rpartition("=")[2]), 300)
    if kind == "tvm":
        return tv_loop(0.03)
    defense = resolve_one(discover(), "defenses", spec)
    assert isinstance(defense, Defense)

    def run(images: Images) -> Images:
        rng = SampleRandom(seed, "defense", range(len(images)))
        outputs: Images = defense.apply(torch.from_numpy(images), rng).cpu().numpy().astype(np.float32)
        return outputs

    return run
