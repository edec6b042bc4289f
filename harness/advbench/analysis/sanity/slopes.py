"""Checks of what attacks that follow gradients are given to follow: numbers, at all pixels, of a loss with a slope."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from advbench.analysis.sanity.finding import Finding, Seen, crafted, grouped, places, tolerance

__all__ = ["flat_at_bounds", "loss_without_slope", "nan_gradient"]


def nan_gradient(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Samples whose gradient at the clean image holds a NaN or an infinity."""
    for group in _by_classifier(cells):
        cell = group[0]
        if cell.summary.no_number:
            yield Finding(
                "nan-gradients",
                places(group),
                f"the gradient holds NaN or infinity for {cell.summary.no_number} of {cell.summary.right} samples "
                f"({cell.victim})",
                "attacks take 0 for what is no number and cannot follow it: look for a division by 0, a root or "
                "logarithm of 0 or an overflow in the model or the defense",
            )


def flat_at_bounds(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Samples whose gradient is exactly zero at the pixels nearest to 0 and 1 alone, which farther inside have one."""
    for group in _by_classifier(cells):
        cell = group[0]
        count = cell.summary.flat_at_bounds
        if count > tolerance(cell.n) * cell.n:
            yield Finding(
                "zero-gradients-at-bounds",
                places(group),
                f"the gradient is zero at exactly the pixels nearest to 0 and 1 for {count} of {cell.summary.right} "
                f"samples ({cell.victim})",
                "attacks that follow gradients cannot move these pixels: leave clamp, relu and rounding of the input "
                "out of the model, which is given images in [0, 1]",
            )


def loss_without_slope(cells: Sequence[Seen]) -> Iterator[Finding]:
    """Samples that withstood an attack whose loss was flat at every point where it asked for a gradient."""
    following = [cell for cell in cells if cell["attack_access"] == "gradients"]
    for cell in crafted(following):
        count = cell.summary.without_slope
        if count > tolerance(cell.n) * cell.n:
            held = cell.summary.held.bit_count()
            yield Finding(
                "loss-without-slope",
                (cell.place,),
                f"the loss that {cell.attack} follows is flat for {count} of the {held} samples that withstand it "
                f"({cell.victim})",
                "it saturates where the model is sure, as the cross-entropy does in float32: use an attack that "
                "follows logits, such as pgd, apgd or autoattack with engine=native",
            )


def _by_classifier(cells: Sequence[Seen]) -> list[Sequence[Seen]]:
    """The cells whose attacks follow gradients, those of the same attacked classifier together."""
    following = [cell for cell in cells if cell["attack_access"] == "gradients"]
    return grouped(following, lambda cell: (*cell.images[:3], cell.images[4]))
