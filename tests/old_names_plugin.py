"""A third party's plugin that was written for advbench 0.1 and still overrides the names of then."""

from __future__ import annotations

from dataclasses import dataclass

from advbench.api import Attack, Defense, hookimpl


@dataclass(frozen=True)
class OldDefense(Defense):
    """Takes images of one width alone, and says so by ``misfit``."""

    name = "old-defense"

    def misfit(self, image_shape):
        return super().misfit(image_shape) or ("" if image_shape[2] == 8 else "old-defense takes images 8 wide")

    def apply(self, images, rng):
        return images


@dataclass(frozen=True)
class OldAttack(Attack):
    """Finds nothing, and says by ``minimises`` in which norm."""

    name = "old-attack"

    def run(self, model, images, labels, rng):
        return images

    def minimises(self):
        return "l2"


@hookimpl
def register_attacks(register):
    register(OldAttack)


@hookimpl
def register_defenses(register):
    register(OldDefense)
