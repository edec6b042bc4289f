"""Checks of the gradients and losses that attacks follow: no gradient, zeros, NaN, and flat losses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from advbench.analysis.sanity.finding import (
    Finding,
    FinishedCell,
    by_attacked_classifier,
    indices,
    one_per_image_set,
    tolerance,
)

__all__ = ["flat_at_bounds", "loss_without_slope", "nan_gradient", "no_gradient", "zero_gradients"]


def no_gradient(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """A classifier that raises when its gradient is computed."""
    for group in by_attacked_classifier(cells):
        raising = next((cell for cell in group if cell.summary.gradient_error), None)
        if raising is not None:
            yield Finding(
                "no-gradient",
                indices(group),
                f"computing a gradient raises an exception ({raising.attacked_classifier}): "
                f"{raising.summary.gradient_error}",
                "attacks that follow gradients do not work here: compute the logits with differentiable functions",
            )


def zero_gradients(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Samples whose gradient at the clean image is zero, for a loss that does not saturate.

    This concerns the classifier, whether or not an attack on it succeeds.
    """
    for group in by_attacked_classifier(cells):
        # With a stochastic defense, each attack is given other draws.
        cell = max(group, key=lambda candidate: candidate.summary.zero_gradients)
        count = cell.summary.zero_gradients
        if count and not cell.summary.gradient_error:
            yield Finding(
                "zero-gradients",
                indices(group),
                f"the gradient is zero for {count} of {cell.summary.attacked_correct} samples "
                f"({cell.attacked_classifier})",
                "attacks that follow gradients cannot move there: return logits and not rounded or saturated outputs, "
                "or give the defense an approximation",
            )


def nan_gradient(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Samples whose gradient at the clean image contains NaN or infinity."""
    for group in by_attacked_classifier(cells):
        cell = group[0]
        if cell.summary.nan_gradients:
            yield Finding(
                "nan-gradients",
                indices(group),
                f"the gradient contains NaN or infinity for {cell.summary.nan_gradients} of "
                f"{cell.summary.attacked_correct} samples ({cell.attacked_classifier})",
                "attacks replace these values by 0 and cannot follow them: look for a division by 0, a root or "
                "logarithm of 0, or an overflow in the model or the defense",
            )


def flat_at_bounds(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Samples whose gradient is exactly zero only at the pixels nearest to 0 and 1, and not farther inside."""
    for group in by_attacked_classifier(cells):
        cell = group[0]
        count = cell.summary.flat_at_bounds
        if count > tolerance(cell.n) * cell.n:
            yield Finding(
                "zero-gradients-at-bounds",
                indices(group),
                f"the gradient is zero only at the pixels nearest to 0 and 1 for {count} of "
                f"{cell.summary.attacked_correct} samples ({cell.attacked_classifier})",
                "attacks that follow gradients cannot move these pixels: remove clamp, relu and rounding of the input "
                "from the model, whose input is always in [0, 1]",
            )


def loss_without_slope(cells: Sequence[FinishedCell]) -> Iterator[Finding]:
    """Samples that withstand an attack whose loss was flat at every point where it computed a gradient."""
    following = [cell for cell in cells if cell["attack_access"] == "gradients"]
    for cell in one_per_image_set(following):
        count = cell.summary.flat_loss
        if count > tolerance(cell.n) * cell.n:
            withstood = cell.summary.attacked_withstood.bit_count()
            yield Finding(
                "loss-without-slope",
                (cell.index,),
                f"the loss that {cell.attack} follows is flat for {count} of the {withstood} samples that withstand it "
                f"({cell.attacked_classifier})",
                "the loss saturates where the model is confident, like the cross-entropy in float32: use an attack "
                "that follows logits, such as pgd, apgd or autoattack with engine=native",
            )
