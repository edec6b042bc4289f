"""Defenses that take more than their own work from whoever runs them: memory, time, the process."""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from advbench.api import Defense, hookimpl, param


@dataclass(frozen=True)
class Hog(Defense):
    """Allocates without bound."""

    name = "hog"

    def apply(self, images, rng):
        taken = []
        while True:
            taken.append(torch.ones(2**25))


@dataclass(frozen=True)
class Hungry(Defense):
    """Needs as many GiB as there are images at once."""

    name = "hungry"
    gib: float = param(1.0, min=0, help="GiB an image")

    def apply(self, images, rng):
        needed = torch.ones(int(len(images) * self.gib * 2**28))
        return images * needed[0]


@dataclass(frozen=True)
class Hang(Defense):
    """Never comes back, and lets no other thread of Python run."""

    name = "hang"

    def apply(self, images, rng):
        ctypes.PyDLL(None).sleep(10_000)
        return images


@dataclass(frozen=True)
class Segfault(Defense):
    """Reads where nothing is."""

    name = "segfault"

    def apply(self, images, rng):
        ctypes.string_at(0)
        return images


@dataclass(frozen=True)
class Unlucky(Defense):
    """Ends its process the first ``times`` times that it is given enough images; each time leaves a line in a file."""

    name = "unlucky"
    times: int = param(1, min=0, help="how often")
    least: int = param(40, min=1, help="how many images are enough")

    def apply(self, images, rng):
        if len(images) < self.least:
            return images
        log = Path(os.environ["DEADLY_LOG"])
        with log.open("a") as file:
            file.write("here\n")
        if len(log.read_text().splitlines()) <= self.times:
            time.sleep(0.1)
            os.kill(os.getpid(), 9)
        return images


@hookimpl
def register_defenses(register):
    for component in (Hog, Hungry, Hang, Segfault, Unlucky):
        register(component)
