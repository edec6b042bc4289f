"""Defenses with another gradient, and approximations that suit most of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from advbench.api import Artefact, Defense, SampleRandom
from advbench_defenses.gaussian import GaussianBlur

__all__ = ["Approximation", "View", "autograd", "blur", "identity", "own", "with_approximation", "with_view"]

Approximation: TypeAlias = Callable[[Any, torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor]
"""Takes the defense, images, its output for them and its random streams; returns images with a gradient."""

View: TypeAlias = Callable[[Any, torch.nn.Module, torch.Tensor, SampleRandom], torch.Tensor]
"""Takes the defense, the network, images and the defense's random streams; returns logits with a gradient."""


def with_approximation(defense: Defense, approximation: Approximation) -> Defense:
    """The defense with this approximation alone, also if autograd could differentiate it."""

    def approximate(images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        return approximation(defense, images, output, rng)

    return _changed(defense, differentiable=False, approximations=lambda _: (approximate,))


def with_view(defense: Defense, view: View) -> Defense:
    """The defense that classifies, with this view alone."""

    def attacked(
        network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom, fitted: Artefact | None = None
    ) -> torch.Tensor:
        del fitted
        return view(defense, network, images, rng)

    return _changed(defense, attacked_views=lambda _: (attacked,))


def own(defense: Defense, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The first approximation that the defense offers."""
    return defense.approximations()[0](images, output, rng)


def autograd(defense: Defense, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The defense itself, for one that autograd can differentiate."""
    del output
    return defense.apply(images, rng)


def identity(defense: Defense, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    """The images."""
    del defense, output, rng
    return images


def blur(sigma: float) -> Approximation:
    """A Gaussian blur, which keeps high frequencies out of the gradient."""

    def blurred(defense: Defense, images: torch.Tensor, output: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        del defense, output
        return GaussianBlur(sigma).apply(images, rng)

    return blurred


def _changed(defense: Defense, **attributes: object) -> Defense:
    """A defense of a subclass with these attributes, and of the same parameters."""
    kind = type(type(defense).__name__, (type(defense),), attributes)
    return kind(**{field.name: getattr(defense, field.name) for field in dataclasses.fields(defense)})
