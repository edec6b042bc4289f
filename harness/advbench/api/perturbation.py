"""Perturbation sets: which images an attack may return for a clean image."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from advbench.api.devices import widest_float
from advbench.api.parameters import format_value
from advbench.errors import ParameterError

if TYPE_CHECKING:
    import torch

__all__ = [
    "NORM_SYMBOLS",
    "TOLERANCE",
    "Corruption",
    "Geometric",
    "LpBall",
    "Norm",
    "Patch",
    "PerturbationSet",
    "SetKind",
    "Unrestricted",
    "distances",
]

Norm = Literal["linf", "l2", "l1", "l0", "l0-pixels"]
"""The norms of perturbations. ``l0`` counts values that change, ``l0-pixels`` pixels of which any channel changes."""

SetKind = Literal["lp", "patch", "geometric", "corruption", "unrestricted"]
"""The kinds of perturbation sets. Results of different kinds are on different leaderboards."""

NORM_SYMBOLS: dict[str, str] = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0", "l0-pixels": "L0 (pixels)"}
"""The norms as they are shown."""

TOLERANCE = 1e-6
"""How far an image may exceed its range or its set by float32 rounding."""

RENDERING_TOLERANCE = 1e-4
"""How far a pixel may be from the harness's own rendering of a rotation and a shift."""


def distances(clean: torch.Tensor, other: torch.Tensor, norm: Norm) -> torch.Tensor:
    """The norm of each image's perturbation: :func:`~advbench.api.widest_float`, shape (batch,).

    Args:
        clean: Clean images, shape (batch, channels, height, width).
        other: Perturbed images, of the same shape.
        norm: The norm, over all pixels and channels.
    """
    if norm == "l0-pixels":
        return _wide((other != clean).any(dim=1).flatten(1).sum(dim=1))
    difference = (_wide(other) - _wide(clean)).flatten(1).abs()
    if norm == "linf":
        return difference.amax(dim=1)
    if norm == "l2":
        return difference.square().sum(dim=1).sqrt()
    if norm == "l1":
        return difference.sum(dim=1)
    return _wide((difference > 0).sum(dim=1))


def _wide(values: torch.Tensor) -> torch.Tensor:
    return values.to(widest_float(values.device))


@dataclasses.dataclass(frozen=True)
class PerturbationSet:
    """Which images an attack may return for a clean image.

    An attack declares its set with :meth:`Attack.perturbation <advbench.api.Attack.perturbation>`; a run checks that
    every image is inside and stores how large the perturbation is. Sets of your own derive from one of the classes
    here; they are immutable.

    Attributes:
        kind: The kind: ``lp``, ``patch``, ``geometric``, ``corruption`` or ``unrestricted``. Each kind has its own
            leaderboards.
        notes: The names of the notes of :class:`~advbench.api.Crafted` that the attack has to return.
    """

    kind: ClassVar[SetKind]
    notes: ClassVar[tuple[str, ...]] = ()

    def label(self) -> str:
        """The set as leaderboards and messages show it, such as ``L∞ ≤ 8/255``."""
        raise NotImplementedError

    def sizes(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """How large the perturbations are, by the names of the measures; the main one first.

        Args:
            clean: Clean images, float32 in [0, 1], shape (batch, channels, height, width).
            adversarial: Adversarial images, of the same shape.
            notes: The attack's notes; the first dimension of each runs over the batch.

        Returns:
            Tensors of float64, shape (batch,); of float32 on a device without float64.
        """
        raise NotImplementedError

    def violations(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[int, str]:
        """Why images are outside the set, by their positions in the batch; empty if all are inside.

        Arguments as for :meth:`sizes`. A reason completes a message such as "attack 'x', patch, sample 3: …" and gives
        the size.
        """
        raise NotImplementedError

    def holds(self, clean: torch.Tensor, points: torch.Tensor) -> torch.Tensor | None:
        """Whether points that an attack queries are in the set: bool, shape (batch,).

        None if the images alone do not tell, without the attack's notes.

        Args:
            clean: Clean images, shape (batch, channels, height, width).
            points: The queried images, of the same shape.
        """
        raise NotImplementedError

    def main_size(self) -> str | None:
        """The name of the main size, which is the first of :meth:`sizes`; None if it has none."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class LpBall(PerturbationSet):
    """Perturbations whose norm is at most eps.

    Attacks declare it with :meth:`Attack.budget <advbench.api.Attack.budget>`.

    Attributes:
        norm: The norm; None for a minimal attack whose norm is unknown.
        eps: The largest norm, for images in [0, 1]; None if there is no bound, for a minimal attack.
    """

    kind: ClassVar[SetKind] = "lp"

    norm: Norm | None
    eps: float | None = None

    def label(self) -> str:
        """Such as ``L∞ ≤ 8/255``; for a minimal attack the norm alone."""
        if self.norm is None:
            return "unbounded"
        symbol = NORM_SYMBOLS[self.norm]
        return symbol if self.eps is None else f"{symbol} ≤ {format_value(self.eps)}"

    def sizes(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The norm of the set, or L2 if it is unknown; see :meth:`PerturbationSet.sizes`."""
        norm = self.norm or "l2"
        return {norm: distances(clean, adversarial, norm)}

    def violations(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[int, str]:
        """Images that are further than eps from the clean ones; see :meth:`PerturbationSet.violations`."""
        inside = self.holds(clean, adversarial)
        found = self.sizes(clean, adversarial, notes)[self.norm or "l2"]
        return {row: f"went {found[row]:.6g} from the image in {self.norm}" for row in _rows(~inside)}

    def holds(self, clean: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Whether the points are within eps; see :meth:`PerturbationSet.holds`."""
        if self.norm is None or self.eps is None:
            return points.new_ones(len(points)).bool()
        return distances(clean, points, self.norm) <= self.eps * (1 + TOLERANCE) + TOLERANCE

    def main_size(self) -> str | None:
        """The norm."""
        return self.norm


@dataclasses.dataclass(frozen=True)
class Patch(PerturbationSet):
    """Any change of the pixels in a region, and none elsewhere.

    The attack returns the region of each sample as the note ``mask``: bool, shape (batch, 1, height, width).

    Attributes:
        area: The largest share of the image's pixels that the mask may cover, above 0 and at most 1.
    """

    kind: ClassVar[SetKind] = "patch"
    notes: ClassVar[tuple[str, ...]] = ("mask",)

    area: float = 1.0

    def __post_init__(self) -> None:
        """Checks the area.

        Raises:
            ParameterError: It is not in (0, 1].
        """
        if not 0 < self.area <= 1:
            raise ParameterError(f"a patch of {self.area:.6g} of the image's area; give more than 0 and at most 1")

    def label(self) -> str:
        """Such as ``area ≤ 5 %``."""
        return f"area ≤ {100 * self.area:.4g} %"

    def sizes(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """``area``, the share of the pixels that the mask covers; see :meth:`PerturbationSet.sizes`."""
        return {"area": _wide(notes["mask"].flatten(1)).mean(dim=1)}

    def violations(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[int, str]:
        """Masks that are too large, and changes outside the mask; see :meth:`PerturbationSet.violations`."""
        area = self.sizes(clean, adversarial, notes)["area"]
        reasons = {
            row: f"its mask covers {100 * area[row]:.4g} % of the image"
            for row in _rows(area > self.area * (1 + TOLERANCE))
        }
        changed = (adversarial - clean).abs() > TOLERANCE
        outside = (changed.any(dim=1, keepdim=True) & ~notes["mask"]).flatten(1).sum(dim=1)
        for row in _rows(outside > 0):
            few = f"{int(outside[row])} pixel{'s' * (int(outside[row]) != 1)} changed outside its mask"
            reasons.setdefault(row, f"{few}, which covers {100 * area[row]:.4g} % of the image")
        return reasons

    def holds(self, clean: torch.Tensor, points: torch.Tensor) -> None:
        """None: the masks of queried points are unknown."""
        return

    def main_size(self) -> str:
        """``area``."""
        return "area"


@dataclasses.dataclass(frozen=True)
class Geometric(PerturbationSet):
    """Rotations about the centre and shifts, rendered with :func:`~advbench.api.rotate_shift`.

    The attack returns each sample's rotation and shift as the notes ``angle`` (degrees, counter-clockwise), ``dx`` and
    ``dy`` (pixels to the right and down): floating-point, shape (batch,). The run renders the images again.

    Attributes:
        max_angle: The largest angle in degrees, in both directions.
        max_shift: The largest shift in pixels, in each of the four directions.
        interpolation: As for :func:`~advbench.api.rotate_shift`.
        padding: As for :func:`~advbench.api.rotate_shift`.
    """

    kind: ClassVar[SetKind] = "geometric"
    notes: ClassVar[tuple[str, ...]] = ("angle", "dx", "dy")

    max_angle: float
    max_shift: float
    interpolation: str = "bilinear"
    padding: str = "zeros"

    def __post_init__(self) -> None:
        """Checks the bounds.

        Raises:
            ParameterError: A bound is negative or not finite.
        """
        for name, value in (("max_angle", self.max_angle), ("max_shift", self.max_shift)):
            if not 0 <= value < math.inf:
                raise ParameterError(f"{name}={value:g} of a geometric perturbation; give a finite number from 0")

    def label(self) -> str:
        """Such as ``±30°, ±3 px``."""
        return f"±{self.max_angle:g}°, ±{self.max_shift:g} px"

    def sizes(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """``angle`` in degrees and ``shift`` in pixels, the larger of both directions; see :meth:`main_size`."""
        angle = {"angle": _wide(notes["angle"].abs())} if self.max_angle else {}
        return {**angle, "shift": _wide(notes["dx"].abs().maximum(notes["dy"].abs()))}

    def violations(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[int, str]:
        """Angles and shifts beyond the bounds, and images that are rendered otherwise."""
        from advbench.api.geometry import rotate_shift

        rendered = rotate_shift(
            clean, notes["angle"], notes["dx"], notes["dy"], interpolation=self.interpolation, padding=self.padding
        )
        difference = (rendered - adversarial).abs().flatten(1).amax(dim=1)
        shift = notes["dx"].abs().maximum(notes["dy"].abs())
        reasons = {}
        for row in _rows(
            (notes["angle"].abs() > self.max_angle * (1 + TOLERANCE))
            | (shift > self.max_shift * (1 + TOLERANCE))
            | (difference > RENDERING_TOLERANCE)
        ):
            angle, dx, dy = (float(notes[name][row]) for name in self.notes)
            moved = f"rotated by {angle:.6g}° and shifted by ({dx:.6g}, {dy:.6g}) px"
            differs = f", but its pixels differ by up to {float(difference[row]):.3g} from the rendered image"
            beyond = abs(angle) > self.max_angle * (1 + TOLERANCE) or shift[row] > self.max_shift * (1 + TOLERANCE)
            reasons[row] = moved if beyond else moved + differs
        return reasons

    def holds(self, clean: torch.Tensor, points: torch.Tensor) -> None:
        """None: the angles and shifts of queried points are unknown."""
        return

    def main_size(self) -> str:
        """``angle``, or ``shift`` if no rotation is allowed."""
        return "angle" if self.max_angle else "shift"


@dataclasses.dataclass(frozen=True)
class Corruption(PerturbationSet):
    """A common corruption, such as noise or blur: images of 8 bits, made without an adversary.

    Attributes:
        severity: The severity, usually from 1 to 5.
    """

    kind: ClassVar[SetKind] = "corruption"

    severity: int

    def label(self) -> str:
        """Such as ``severity 3``."""
        return f"severity {self.severity}"

    def sizes(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """``rms``, the root mean square of the change of a value; see :meth:`PerturbationSet.sizes`."""
        return {"rms": (_wide(adversarial) - _wide(clean)).square().flatten(1).mean(dim=1).sqrt()}

    def violations(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[int, str]:
        """Images with values that are no multiples of 1/255; see :meth:`PerturbationSet.violations`."""
        levels = _wide(adversarial) * 255
        off = (levels - levels.round()).abs().flatten(1).amax(dim=1)
        return {
            row: f"a value is {float(off[row]):.3g} of a level away from the 256 levels of 8 bits"
            for row in _rows(~self.holds(clean, adversarial))
        }

    def holds(self, clean: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """Whether all values are multiples of 1/255; see :meth:`PerturbationSet.holds`."""
        levels = _wide(points) * 255
        return ((levels - levels.round()).abs() <= 255 * TOLERANCE).flatten(1).all(dim=1)

    def main_size(self) -> str:
        """``rms``."""
        return "rms"


@dataclasses.dataclass(frozen=True)
class Unrestricted(PerturbationSet):
    """Any image."""

    kind: ClassVar[SetKind] = "unrestricted"

    def label(self) -> str:
        """``any image``."""
        return "any image"

    def sizes(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The L2 norm of the change; see :meth:`PerturbationSet.sizes`."""
        return {"l2": distances(clean, adversarial, "l2")}

    def violations(
        self, clean: torch.Tensor, adversarial: torch.Tensor, notes: Mapping[str, torch.Tensor]
    ) -> dict[int, str]:
        """None are outside."""
        return {}

    def holds(self, clean: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        """True for every point."""
        return points.new_ones(len(points)).bool()

    def main_size(self) -> str:
        """``l2``."""
        return "l2"


def _rows(chosen: torch.Tensor) -> list[int]:
    """The positions of the set bits."""
    rows: list[int] = chosen.nonzero().flatten().tolist()
    return rows
