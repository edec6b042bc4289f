"""Split Bregman solver for masked, isotropic total variation, on many images at a time."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["BORDERS", "PUBLISHED", "Floats", "Mask", "solve"]

PUBLISHED = "published"
BORDERS = (PUBLISHED, "neighbours")
"""Divisor of a dropped pixel's sum of neighbours: 4, also at the border, or the number of neighbours it has."""

_COMPACTION_SHARE = 0.75
"""Finished images are removed once at most this share is unfinished; the removal costs a quarter of an iteration."""

_VALUES_PER_BLOCK = 25_000
"""Approximate number of values in one block of the shrinkage step."""

Floats: TypeAlias = "npt.NDArray[np.float64]"
Mask: TypeAlias = "npt.NDArray[np.bool_]"


def solve(
    f: Floats, kept: Mask, *, mu: float, iterations: int, sweeps: int, tolerance: float, border: str = PUBLISHED
) -> Floats:
    """Minimises total variation plus mu/2 times the squared distance from the kept values of the images.

    Every channel is solved separately by Goldstein and Osher's split Bregman method (2009, section 4, isotropic). Each
    outer iteration takes Gauss-Seidel sweeps in row-by-row order, then shrinks the gradient variables d and updates the
    Bregman variables b once.

    Args:
        f: Images, shape (batch, channels, height, width); 0 where a value is not kept.
        kept: Mask of kept values, of the same shape.
        mu: Weight of the distance.
        iterations: Maximum number of outer iterations.
        sweeps: Gauss-Seidel sweeps per outer iteration.
        tolerance: An image is finished once an outer iteration changes it by at most this root mean square.
        border: One of ``BORDERS``.

    Returns:
        The restored images, of the same shape.
    """
    batch, channels, height, width = f.shape
    planes = f.reshape(-1, height, width).transpose(1, 2, 0).copy()
    # A copy, since arrays derived from the mask take over its memory layout.
    mask = kept.reshape(-1, height, width).transpose(1, 2, 0).copy()
    solver = _Solver(planes, mask, mu, border)
    restored = np.empty_like(f)
    active = np.arange(batch)
    unfinished = np.ones(batch, dtype=bool)
    for _ in range(iterations):
        squares = solver.iterate(sweeps)
        converged = unfinished & (np.sqrt(squares.reshape(-1, channels).sum(axis=1) / f[0].size) <= tolerance)
        if not converged.any():
            continue
        restored[active[converged]] = solver.solution(np.repeat(converged, channels)).reshape(-1, *f.shape[1:])
        unfinished &= ~converged
        if not unfinished.any():
            return restored
        if unfinished.mean() <= _COMPACTION_SHARE:
            active = active[unfinished]
            solver.select(np.repeat(unfinished, channels))
            unfinished = np.ones(len(active), dtype=bool)
    restored[active[unfinished]] = solver.solution(np.repeat(unfinished, channels)).reshape(-1, *f.shape[1:])
    return restored


class _Solver:
    """The state of the solver; every array has shape (height, width, planes), with one plane per channel of an image.

    All arrays but the gain are scaled by 2 mu, which saves a multiplication per update.
    """

    def __init__(self, f: Floats, kept: Mask, mu: float, border: str) -> None:
        height, width, _ = f.shape
        self._scale = 2 * mu
        row, column = np.indices((height, width))
        neighbours = 0 + (row > 0) + (row < height - 1) + (column > 0) + (column < width - 1)
        # A Gauss-Seidel update sets u to (2 mu S + mu f) / (mu + 2 mu n) where f is kept and to S / 4 elsewhere, where
        # f is 0; with the other border, to S / n. S is the sum of the n neighbours and the Bregman term. This equals
        # gain S + pull. The single pixel of a 1 x 1 image has n = 0 and S = 0.
        divisor = 4 if border == PUBLISHED else np.maximum(neighbours, 1)[..., None]
        self._gain = np.where(kept, (2 / (1 + 2 * neighbours))[..., None], 1 / divisor)
        self._pull = f * (self._scale / (1 + 2 * neighbours))[..., None]
        self._u: Floats = f * self._scale
        self._bx, self._by = np.zeros_like(f), np.zeros_like(f)
        self._term = self._pull.copy()
        self._spare: Floats = f
        self._prepare()

    def select(self, mask: npt.NDArray[np.bool_]) -> None:
        """Continues with these planes only."""
        names = ("_u", "_gain", "_pull", "_bx", "_by", "_term")
        vars(self).update({name: np.compress(mask, vars(self)[name], axis=-1) for name in names})
        self._prepare()

    def solution(self, mask: npt.NDArray[np.bool_]) -> Floats:
        """Returns the current solution of these planes, shape (planes, height, width)."""
        solution: Floats = np.compress(mask, self._u, axis=-1).transpose(2, 0, 1)
        return solution / self._scale

    def iterate(self, sweeps: int) -> Floats:
        """Runs one outer iteration; returns the sum of squared changes of each plane."""
        self._wavefront.sweep(self._term, sweeps)
        previous = self._u
        self._u, self._spare = self._wavefront.solution(out=self._spare), previous
        self._shrink()
        previous -= self._u
        return _sums(np.multiply(previous, previous, out=previous)) / self._scale**2

    def _prepare(self) -> None:
        """Allocates what depends on the number of planes."""
        self._wavefront = _Wavefront(self._u, self._gain)
        self._spare = np.empty_like(self._u)
        rows = max(1, _VALUES_PER_BLOCK // self._u[0].size)
        self._scratch = [np.empty_like(self._u[:rows]) for _ in range(4)]

    def _shrink(self) -> None:
        """Updates d and b once: t = grad u + b, s = |t|, d = s t / (s + 1), b = t - d.

        Stores in ``_term`` gain times the Bregman term div(b - d), with backward differences, plus pull. Runs on a few
        rows at a time, so that values read twice are still in the cache.
        """
        above = np.zeros_like(self._u[0])
        step = len(self._scratch[0])
        for first in range(0, len(self._u), step):
            self._shrink_rows(slice(first, min(first + step, len(self._u))), above)

    def _shrink_rows(self, rows: slice, above: Floats) -> None:
        """Runs :meth:`_shrink` on these rows.

        Args:
            rows: The rows.
            above: The vertical component of b - d in the row before; it is set to that of the last of these rows.
        """
        u, bx, by, term = self._u[rows], self._bx[rows], self._by[rows], self._term[rows]
        below = self._u[rows.start + 1 : rows.stop + 1]
        tx, ty, q, x = (scratch[: len(u)] for scratch in self._scratch)
        np.subtract(u[:, 1:], u[:, :-1], out=tx[:, :-1])
        tx[:, -1] = 0
        tx += bx
        np.subtract(below, u[: len(below)], out=ty[: len(below)])
        ty[len(below) :] = 0
        ty += by
        # q = 1 / (s + 1) is the factor of t that remains in b; b - d = (2 q - 1) t.
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
    """Gauss-Seidel sweeps over planes stored by anti-diagonals, within which all pixels can be updated at once.

    Pixel (r, c) is at [r + c + 1, r + 1] of u, which has a border of zeros. Its upper and left neighbours are on the
    previous diagonal, at r and r + 1; its right and lower neighbours on the next one, at r + 1 and r + 2. The two of
    each pair are adjacent, so the sums of pairs of a diagonal are computed once, for both the previous and the next
    diagonal. Entries without a pixel are 0.

    Args:
        u: Planes, shape (height, width, planes).
        gain: Factor of each pixel, of the same shape.
    """

    def __init__(self, u: Floats, gain: Floats) -> None:
        height, width, planes = u.shape
        row, column = np.indices((height, width))
        self._indices = ((row + column) * height + row).ravel()
        self._bordered_indices = ((row + column + 1) * (height + 2) + row + 1).ravel()
        diagonals = height + width - 1
        self._u = np.zeros((diagonals + 2, height + 2, planes))
        self._u.reshape(-1, planes)[self._bordered_indices] = u.reshape(-1, planes)
        self._pair_sums = np.zeros_like(self._u)
        np.add(self._u[:, :-1], self._u[:, 1:], out=self._pair_sums[:, 1:])
        self._gain = np.zeros((diagonals, height, planes))
        self._gain.reshape(-1, planes)[self._indices] = gain.reshape(-1, planes)
        self._term = np.zeros_like(self._gain)
        self._width = width
        self._plan: list[tuple[Floats, ...]] = []

    def sweep(self, term: Floats, sweeps: int) -> None:
        """Sets every pixel to gain · (sum of its neighbours) + term, row by row, ``sweeps`` times."""
        self._term.reshape(-1, term.shape[-1])[self._indices] = term.reshape(-1, term.shape[-1])
        self._plan = self._plan or self._steps(sweeps)
        add, multiply = np.add, np.multiply
        for previous, after, sums, gain, terms, here, left, right, pair_sums in self._plan:
            add(previous, after, sums)
            multiply(sums, gain, sums)
            add(sums, terms, here)
            add(left, right, pair_sums)

    def solution(self, out: Floats) -> Floats:
        """Returns the planes, shape (height, width, planes)."""
        planes = out.shape[-1]
        np.take(self._u.reshape(-1, planes), self._bordered_indices, axis=0, out=out.reshape(-1, planes), mode="clip")
        return out

    def _steps(self, sweeps: int) -> list[tuple[Floats, ...]]:
        """Returns the views that each step of the sweeps reads and writes.

        Each sweep follows the previous one at a distance of two diagonals, the smallest at which it reads updated
        values only. So every step updates every other diagonal of a range.
        """
        u, pair_sums, height = self._u, self._pair_sums, self._gain.shape[1]
        last = len(self._gain) - 1
        scratch = np.empty((min(sweeps, last // 2 + 1), *self._gain.shape[1:]))
        steps: list[tuple[Floats, ...]] = []
        for step in range(last + 2 * sweeps - 1):
            first, end = max(step - 2 * (sweeps - 1), step % 2), min(step, last) + 1
            diagonals = range(first, end, 2)
            if not diagonals:
                continue
            # The rows that these diagonals span.
            top, bottom = max(0, first - self._width + 1), min(height, diagonals[-1] + 1)
            flat, here = slice(first, end, 2), slice(first + 1, end + 1, 2)
            steps.append(
                (
                    pair_sums[first:end:2, top + 1 : bottom + 1],
                    pair_sums[first + 2 : end + 2 : 2, top + 2 : bottom + 2],
                    scratch[: len(diagonals), : bottom - top],
                    self._gain[flat, top:bottom],
                    self._term[flat, top:bottom],
                    u[here, top + 1 : bottom + 1],
                    u[here, top : bottom + 1],
                    u[here, top + 1 : bottom + 2],
                    pair_sums[here, top + 1 : bottom + 2],
                )
            )
        return steps


def _sums(values: Floats) -> Floats:
    """Returns the sum of each plane, for values of shape (height, width, planes).

    The order of summation does not depend on the other planes.
    """
    for _ in range(2):
        total = values[0].copy()
        for part in values[1:]:
            total += part
        values = total
    return values
