"""The masked, isotropic split Bregman solver for total variation, on many images at once."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Mask", "solve"]

_WORTH_LEAVING = 0.75
"""Finished images leave when no more than this share is unfinished: to leave costs a quarter of an iteration."""

_TOGETHER = 25_000
"""How many values are shrunk together, about."""

Floats: TypeAlias = "npt.NDArray[np.float64]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"


def solve(f: Floats, kept: Mask, *, mu: float, iterations: int, sweeps: int, tolerance: float) -> Floats:
    """Minimises total variation plus mu/2 times the squared distance from what is kept of the images.

    Every channel of an image is solved by itself, by Goldstein and Osher's split Bregman method (2009, section 4,
    isotropic): each outer iteration takes Gauss-Seidel sweeps in row-by-row order, then shrinks the gradient
    variables d and updates the Bregman variables b once.

    Args:
        f: Images, shape (batch, channels, height, width); 0 where they are not kept.
        kept: Which values are, of the same shape.
        mu: Weight of the distance.
        iterations: Most outer iterations.
        sweeps: Gauss-Seidel sweeps in each.
        tolerance: An image is finished when an outer iteration changes it by no more than this root mean square.

    Returns:
        The restored images, of the same shape.
    """
    batch, channels, height, width = f.shape
    planes = f.reshape(-1, height, width).transpose(1, 2, 0).copy()
    mask = kept.reshape(-1, height, width).transpose(1, 2, 0).copy()  # what is made of it lies as it does
    solver = _Solver(planes, mask, mu)
    restored = np.empty_like(f)
    active = np.arange(batch)
    unfinished = np.ones(batch, dtype=bool)
    for _ in range(iterations):
        squares = solver.iterate(sweeps)
        ended = unfinished & (np.sqrt(squares.reshape(-1, channels).sum(axis=1) / f[0].size) <= tolerance)
        if not ended.any():
            continue
        restored[active[ended]] = solver.solution(np.repeat(ended, channels)).reshape(-1, *f.shape[1:])
        unfinished &= ~ended
        if not unfinished.any():
            return restored
        if unfinished.mean() <= _WORTH_LEAVING:
            active = active[unfinished]
            solver.keep(np.repeat(unfinished, channels))
            unfinished = np.ones(len(active), dtype=bool)
    restored[active[unfinished]] = solver.solution(np.repeat(unfinished, channels)).reshape(-1, *f.shape[1:])
    return restored


class _Solver:
    """The state of a solution; every array has shape (height, width, planes), a plane being a channel of an image.

    All but the gain is 2 mu times what it stands for, which spares a product in every update.
    """

    def __init__(self, f: Floats, kept: Mask, mu: float) -> None:
        height, width, _ = f.shape
        self._scale = 2 * mu
        row, column = np.indices((height, width))
        neighbours = 0 + (row > 0) + (row < height - 1) + (column > 0) + (column < width - 1)
        # Gauss-Seidel sets u to (2 mu S + mu f) / (mu + 2 mu n) where f is kept and to S / 4 elsewhere, where f is 0, S
        # being the sum of the n neighbours and the Bregman term. That is gain S + pull.
        self._gain = np.where(kept, (2 / (1 + 2 * neighbours))[..., None], 1 / 4)
        self._pull = f * (self._scale / (1 + 2 * neighbours))[..., None]
        self._u: Floats = f * self._scale
        self._bx, self._by = np.zeros_like(f), np.zeros_like(f)
        self._term = self._pull.copy()
        self._other: Floats = f
        self._prepare()

    def keep(self, which: npt.NDArray[np.bool_]) -> None:
        """Goes on with these planes only."""
        names = ("_u", "_gain", "_pull", "_bx", "_by", "_term")
        vars(self).update({name: np.compress(which, vars(self)[name], axis=-1) for name in names})
        self._prepare()

    def solution(self, which: npt.NDArray[np.bool_]) -> Floats:
        """The solution so far of these planes, shape (planes, height, width)."""
        chosen: Floats = np.compress(which, self._u, axis=-1).transpose(2, 0, 1)
        return chosen / self._scale

    def iterate(self, sweeps: int) -> Floats:
        """One outer iteration; returns the sum of the squares of what it changed in each plane."""
        self._wavefront.sweep(self._term, sweeps)
        before = self._u
        self._u, self._other = self._wavefront.solution(out=self._other), before
        self._shrink()
        before -= self._u
        return _sums(np.multiply(before, before, out=before)) / self._scale**2

    def _prepare(self) -> None:
        """Makes what depends on the number of planes."""
        self._wavefront = _Wavefront(self._u, self._gain)
        self._other = np.empty_like(self._u)
        rows = max(1, _TOGETHER // self._u[0].size)
        self._room = [np.empty_like(self._u[:rows]) for _ in range(4)]

    def _shrink(self) -> None:
        """Updates d and b once: t = grad u + b, s = |t|, d = s t / (s + 1), b = t - d.

        Leaves in ``_term`` gain times the Bregman term div(b - d), with backward differences, plus pull. Goes some rows
        at a time, so that what is read again is still in the cache.
        """
        above = np.zeros_like(self._u[0])
        step = len(self._room[0])
        for first in range(0, len(self._u), step):
            self._shrink_rows(slice(first, min(first + step, len(self._u))), above)

    def _shrink_rows(self, rows: slice, above: Floats) -> None:
        """The same for these rows; ``above`` is b - d downwards in the row before, and becomes that in their last."""
        u, bx, by, term = self._u[rows], self._bx[rows], self._by[rows], self._term[rows]
        below = self._u[rows.start + 1 : rows.stop + 1]
        tx, ty, q, x = (room[: len(u)] for room in self._room)
        np.subtract(u[:, 1:], u[:, :-1], out=tx[:, :-1])
        tx[:, -1] = 0
        tx += bx
        np.subtract(below, u[: len(below)], out=ty[: len(below)])
        ty[len(below) :] = 0
        ty += by
        # q = 1 / (s + 1): what of t is left in b; b - d = (2 q - 1) t.
        np.multiply(tx, tx, out=q)
        np.multiply(ty, ty, out=x)
        q += x
        np.sqrt(q, out=q)
        q += 1
        np.divide(1, q, out=q)
        np.multiply(tx, q, out=bx)
        np.multiply(ty, q, out=by)
        q += q
        q -= 1
        tx *= q
        ty *= q
        np.add(tx, ty, out=term)
        term[:, 1:] -= tx[:, :-1]
        term[0] -= above
        term[1:] -= ty[:-1]
        above[:] = ty[-1]
        term *= self._gain[rows]
        term += self._pull[rows]


class _Wavefront:
    """Gauss-Seidel sweeps over planes laid out by anti-diagonals, within which all pixels may be updated at once.

    Pixel (r, c) is at [r + c + 1, r + 1] of u, which has a border of zeros. Its neighbours above and on the left are on
    the diagonal before, at r and r + 1, those on the right and below on the diagonal after, at r + 1 and r + 2. Either
    two stand side by side, so that each diagonal's sums of such pairs are made once and serve the diagonals before and
    after it. Places that hold no pixel are 0.

    Args:
        u: Planes, shape (height, width, planes).
        gain: Factor of each pixel, of the same shape.
    """

    def __init__(self, u: Floats, gain: Floats) -> None:
        height, width, planes = u.shape
        row, column = np.indices((height, width))
        self._at = ((row + column) * height + row).ravel()
        self._at_bordered = ((row + column + 1) * (height + 2) + row + 1).ravel()
        diagonals = height + width - 1
        self._u = np.zeros((diagonals + 2, height + 2, planes))
        self._u.reshape(-1, planes)[self._at_bordered] = u.reshape(-1, planes)
        self._pairs = np.zeros_like(self._u)
        np.add(self._u[:, :-1], self._u[:, 1:], out=self._pairs[:, 1:])
        self._gain = np.zeros((diagonals, height, planes))
        self._gain.reshape(-1, planes)[self._at] = gain.reshape(-1, planes)
        self._term = np.zeros_like(self._gain)
        self._width = width
        self._plan: list[tuple[Floats, ...]] = []

    def sweep(self, term: Floats, sweeps: int) -> None:
        """Sets every pixel to gain (sum of its neighbours) + term, row by row, so many times."""
        self._term.reshape(-1, term.shape[-1])[self._at] = term.reshape(-1, term.shape[-1])
        self._plan = self._plan or self._steps(sweeps)
        add, multiply = np.add, np.multiply
        for before, after, sums, gain, terms, here, left, right, pairs in self._plan:
            add(before, after, sums)
            multiply(sums, gain, sums)
            add(sums, terms, here)
            add(left, right, pairs)

    def solution(self, out: Floats) -> Floats:
        """The planes again, of shape (height, width, planes)."""
        planes = out.shape[-1]
        np.take(self._u.reshape(-1, planes), self._at_bordered, axis=0, out=out.reshape(-1, planes), mode="clip")
        return out

    def _steps(self, sweeps: int) -> list[tuple[Floats, ...]]:
        """What each step of the sweeps reads and writes.

        Each sweep follows the one before at a distance of two diagonals, which is as close as it can without
        reading what is not there yet. So every step updates every other diagonal of a range.
        """
        u, pairs, height = self._u, self._pairs, self._gain.shape[1]
        last = len(self._gain) - 1
        room = np.empty((min(sweeps, last // 2 + 1), *self._gain.shape[1:]))
        steps: list[tuple[Floats, ...]] = []
        for step in range(last + 2 * sweeps - 1):
            first, end = max(step - 2 * (sweeps - 1), step % 2), min(step, last) + 1
            diagonals = range(first, end, 2)
            if not diagonals:
                continue
            # The rows that these diagonals reach between them.
            top, bottom = max(0, first - self._width + 1), min(height, diagonals[-1] + 1)
            flat, here = slice(first, end, 2), slice(first + 1, end + 1, 2)
            steps.append(
                (
                    pairs[first:end:2, top + 1 : bottom + 1],
                    pairs[first + 2 : end + 2 : 2, top + 2 : bottom + 2],
                    room[: len(diagonals), : bottom - top],
                    self._gain[flat, top:bottom],
                    self._term[flat, top:bottom],
                    u[here, top + 1 : bottom + 1],
                    u[here, top : bottom + 1],
                    u[here, top + 1 : bottom + 2],
                    pairs[here, top + 1 : bottom + 2],
                )
            )
        return steps


def _sums(values: Floats) -> Floats:
    """The sum over each plane of values of shape (height, width, planes), in the same order whatever the others are."""
    for _ in range(2):
        total = values[0].copy()
        for part in values[1:]:
            total += part
        values = total
    return values
