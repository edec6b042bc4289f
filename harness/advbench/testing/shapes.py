"""Defenses on images of several shapes, and which shape made a rule fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from advbench.api import Defense
from advbench.testing.finding import Rule, RuleSkipped, RuleViolated, add_hint
from advbench.testing.fixtures import SHAPES, example_images

__all__ = ["Shape", "ShapeTrial", "naming_shapes"]

Shape = tuple[int, int, int]


class ShapeTrial:
    """A defense on images of the shapes that it takes.

    Args:
        defense: The defense.
        shapes: Those of :data:`~advbench.testing.fixtures.SHAPES` for which it returns no incompatibility.
    """

    def __init__(self, defense: Defense, shapes: Sequence[Shape]) -> None:
        self.defense = defense
        self.shapes = shapes

    def example_batches(self, count: int = 6) -> Iterator[torch.Tensor]:
        """Yields a batch of images of each shape.

        Raises:
            RuleSkipped: The defense takes none of them.
        """
        if not self.shapes:
            raise RuleSkipped(f"it accepts none of the shapes {', '.join(map(str, SHAPES))}")
        for shape in self.shapes:
            yield example_images(shape, count)


def naming_shapes(rules: Iterator[Rule], trial: ShapeTrial) -> Iterator[Rule]:
    """Makes the exceptions of rules say for images of which shape they are raised, if others cause none.

    Args:
        rules: Rules that check ``trial``.
        trial: The defense on images of several shapes.
    """
    for rule in rules:
        yield dataclasses.replace(rule, check=partial(_check, trial, rule.check))


def _check(trial: ShapeTrial, check: Callable[[], object]) -> None:
    try:
        check()
    except (RuleSkipped, RuleViolated):
        raise
    except Exception as error:
        good = [shape for shape in trial.shapes if _passes(trial, shape, check)]
        bad = [shape for shape in trial.shapes if shape not in good]
        if good and bad:
            add_hint(
                error,
                f"for images of shape {_listed(bad)}, which the rule also tries; images of shape {_listed(good)} cause "
                "no error. A defense that cannot take images of some shapes returns the reason from "
                "incompatibility(image_shape)",
            )
        raise


def _passes(trial: ShapeTrial, shape: Shape, check: Callable[[], object]) -> bool:
    """Whether a check raises nothing if images of this shape alone are tried."""
    shapes, trial.shapes = trial.shapes, [shape]
    try:
        check()
    except (Exception, SystemExit):
        return False
    finally:
        trial.shapes = shapes
    return True


def _listed(shapes: Sequence[Shape]) -> str:
    return " and ".join(map(str, shapes))
