"""Attacks that break one rule of perturbation sets each. Loaded with ``--plugin``."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from advbench.api import (
    Attack,
    Budget,
    Corruption,
    Crafted,
    Geometric,
    LpBall,
    Patch,
    Unrestricted,
    hookimpl,
    param,
    rotate_shift,
)

API_VERSION = 2

HOW = (
    "outside-mask", "large-mask", "no-mask", "mask-of-floats", "mask-of-channels", "angle", "shift", "rendering",
    "angles-of-integers", "bits", "no-set", "ball-by-itself", "two-sets", "corruption-with-gradients", "lines",
    "too-large", "sizes", "other-size",
)  # fmt: skip


@dataclass(frozen=True)
class WrongSizes(Unrestricted):
    """Returns sizes as float32."""

    def sizes(self, clean, adversarial, notes):
        return {"l2": torch.zeros(len(clean))}


@dataclass(frozen=True)
class OtherSize(Unrestricted):
    """Names another main size than it returns."""

    def main_size(self):
        return "colour"


@dataclass(frozen=True)
class TwoLines(Unrestricted):
    """Has a label of two lines."""

    def label(self):
        return "any\nimage"


@dataclass(frozen=True)
class BrokenSet(Attack):
    """Breaks a rule of perturbation sets."""

    name = "broken-set"
    self_contained = True
    how: str = param("outside-mask", help="which rule to break, or none")

    @property
    def access(self):
        return "gradients" if self.how == "corruption-with-gradients" else "nothing"

    def budget(self):
        return Budget("linf", 0.1) if self.how == "two-sets" else None

    def perturbation(self):
        sets = {
            "large-mask": lambda: Patch(0.01),
            "angle": lambda: Geometric(5, 3),
            "shift": lambda: Geometric(15, 1),
            "rendering": lambda: Geometric(15, 3),
            "angles-of-integers": lambda: Geometric(15, 3),
            "geometric": lambda: Geometric(15, 3),
            "bits": lambda: Corruption(1),
            "corruption-with-gradients": lambda: Corruption(1),
            "no-set": lambda: "patch",
            "ball-by-itself": lambda: LpBall("l2", 1.0),
            "lines": TwoLines,
            "too-large": lambda: Patch(1.5),
            "sizes": WrongSizes,
            "other-size": OtherSize,
        }
        return sets.get(self.how, lambda: Patch(0.05))()

    def craft(self, model, images, goal, rng, fitted=None):
        if self.how in ("angle", "shift", "rendering", "angles-of-integers", "geometric"):
            motion = {name: torch.full((len(images),), value) for name, value in (("angle", 10.0), ("dx", 2.0))}
            motion["dy"] = torch.zeros(len(images))
            turned = rotate_shift(images, **motion)
            if self.how == "rendering":
                turned = turned * 0.9
            if self.how == "angles-of-integers":
                motion = {name: values.long() for name, values in motion.items()}
            return Crafted(turned, motion)
        mask = torch.zeros(len(images), 1, *images.shape[2:], dtype=torch.bool)
        mask[:, :, :4, :4] = True
        if self.how in ("bits", "corruption-with-gradients"):
            return images * 0.9
        patched = torch.where(mask, 1.0, images)
        if self.how == "outside-mask":
            patched[:, :, 8, 8] = 0
        if self.how == "no-mask":
            return patched
        if self.how == "mask-of-floats":
            mask = mask.float()
        if self.how == "mask-of-channels":
            mask = mask[:, 0]
        return Crafted(patched, {"mask": mask})


@hookimpl
def register_attacks(register):
    register(BrokenSet)
