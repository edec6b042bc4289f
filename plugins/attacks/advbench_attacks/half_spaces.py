"""The smallest step within [0, 1] into an intersection of half-spaces, by an interior-point method."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch

from advbench.api import Norm, widest_float
from advbench_attacks.hyperplane_projection import step_to_hyperplane
from advbench_attacks.norms import lp_norm, per_image

__all__ = ["step_into_half_spaces"]

_DUAL: dict[str, str] = {"linf": "l1", "l2": "l2", "l1": "linf"}

_ITERATIONS, _USUAL_ITERATIONS = 30, 15
"""Maximum number of Newton steps, and a number that is mostly enough."""

_MAX_GAP, _MAX_RESIDUAL = 1e-4, 1e-6
"""Duality gap and residuals at which a sample is done; distances are scaled to the order of 1.

Newton's system becomes singular towards the solution, so more digits would cost accuracy.
"""

_MAX_HEIGHT_ERROR = 1e-5
"""Error of a height above a hyperplane, as a share of the largest offset, up to which a step enters the half-space."""

_PENALTY = 1e4
"""Cost of a violation of the half-spaces, which makes every problem feasible."""

_REGULARISATION = 1e-4
"""Quadratic cost of a linear program, divided by the number of pixels: it makes Newton's system better conditioned."""

_MIN_SLACK = 0.1
"""Smallest slack at the start."""

_STEP_SHARE = 0.995
"""Share of the longest step that keeps slacks and multipliers positive."""

_MAX_BOUND = 1e3
"""Bounds farther away than this many times the distance to the farthest half-space have no effect."""

_Direction: TypeAlias = "tuple[torch.Tensor, torch.Tensor, list[torch.Tensor], list[torch.Tensor]]"
"""Changes of δ, of the dense variables, of the slacks and of the multipliers."""

_MAX_VALUES = 2**21
"""Samples are solved in batches of about so many pixel values, to limit memory."""


def step_into_half_spaces(
    points: torch.Tensor, normals: torch.Tensor, offsets: torch.Tensor, norm: Norm
) -> torch.Tensor:
    """Computes the smallest steps from points into intersections of half-spaces that stay within [0, 1].

    A sample's half-spaces are {p : ⟨normalₖ, p − point⟩ + offsetₖ ≥ 0}. The step is the solution of a linear program in
    L∞ and L1 and of a quadratic program in L2. They are solved in float64 with the predictor-corrector method of
    Mehrotra 1992, On the implementation of a primal-dual interior point method. A linear system has one unknown per
    half-space; pixels are eliminated. Where the step to the farthest hyperplane alone is the solution, there is no
    system to solve.

    Args:
        points: In [0, 1], shape (batch, channels, height, width).
        normals: The half-spaces' normals, shape (batch, half-spaces, channels, height, width).
        offsets: Shape (batch, half-spaces).
        norm: ``linf``, ``l2`` or ``l1``.

    Returns:
        The steps, of the points' shape. If the half-spaces do not intersect within [0, 1], the step leads to a point at
        which the largest violation is smallest. If a normal or an offset is not finite, the step is 0.
    """
    finite = normals.flatten(1).isfinite().all(dim=1) & offsets.isfinite().all(dim=1)
    outside = finite & (offsets < 0).any(dim=1)
    steps = torch.where(per_image(outside), _step_to_farthest(points, normals, offsets, norm), 0.0)
    heights = torch.einsum("bmchw,bchw->bm", normals, steps) + offsets
    solved = (heights >= -_MAX_HEIGHT_ERROR * offsets.abs().amax(dim=1, keepdim=True)).all(dim=1)
    rows = (outside & ~solved).nonzero().flatten()
    for batch in torch.split(rows, max(1, _MAX_VALUES // points[0].numel())):
        if not len(batch):
            break
        where = points.device if widest_float(points.device) == torch.float64 else "cpu"  # float32 is not enough
        flat = points[batch].flatten(1).to(where).double()
        solution = _solve(flat, normals[batch].flatten(2).to(where).double(), offsets[batch].to(where).double(), norm)
        steps[batch] = solution.to(points.dtype).to(points.device).reshape(points[batch].shape)
    return steps


def _step_to_farthest(points: torch.Tensor, normals: torch.Tensor, offsets: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Returns the steps to the hyperplanes that are farthest away, which are the solution if they enter all others."""
    distances = -offsets / _sizes(normals.flatten(2), norm)
    farthest = distances.argmax(dim=1, keepdim=True)
    chosen = torch.take_along_dim(normals, farthest[:, :, None, None, None], dim=1)[:, 0]
    return step_to_hyperplane(points, chosen.nan_to_num(0.0), offsets.gather(1, farthest)[:, 0].nan_to_num(0.0), norm)


def _sizes(normals: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Returns the dual norms of normals of shape (batch, half-spaces, pixels), clamped to be positive."""
    sizes = lp_norm(normals.flatten(0, 1), _DUAL[norm]).reshape(normals.shape[:2])
    return sizes.clamp(min=torch.finfo(normals.dtype).tiny)


def _solve(points: torch.Tensor, normals: torch.Tensor, offsets: torch.Tensor, norm: Norm) -> torch.Tensor:
    """Scales the problem so that the distance is of the order of 1, and solves it."""
    tiny = torch.finfo(normals.dtype).tiny
    sizes = _sizes(normals, norm)
    normals, needed = normals / sizes[:, :, None], -offsets / sizes
    scale = needed.amax(dim=1).clamp(tiny, 1e3)[:, None]  # a normal of 0 may need any distance
    needed = (needed / scale).clamp(-_MAX_BOUND, _MAX_BOUND)
    low = (-points / scale).clamp(min=-_MAX_BOUND)
    high = ((1 - points) / scale).clamp(max=_MAX_BOUND)
    if norm == "l1":  # a difference of two steps that are not negative
        parts = _Problem(torch.cat((normals, -normals), dim=2), needed, torch.zeros_like(low).repeat(1, 2),
                         torch.cat((high, -low), dim=1), norm).solve()  # fmt: skip
        upwards, downwards = parts.chunk(2, dim=1)
        return (upwards - downwards) * scale
    return _Problem(normals, needed, low, high, norm).solve() * scale


class _Problem:
    """Minimises cost · δ + ½ q ‖δ‖² + ε + penalty · s, subject to A δ + s ≥ b, s ≥ 0, bounds on δ and, in L∞, |δ| ≤ ε.

    Every bound on a pixel has the form sign · δ + width · ε ≥ limit. The dense variables are ε, if the norm is L∞, and
    s.

    Args:
        normals: A, float64, shape (batch, half-spaces, pixels).
        needed: b, shape (batch, half-spaces).
        low: Lower bounds, shape (batch, pixels).
        high: Upper bounds, shape (batch, pixels).
        norm: The norm to minimise; for ``l1``, no lower bound is negative.
    """

    def __init__(
        self, normals: torch.Tensor, needed: torch.Tensor, low: torch.Tensor, high: torch.Tensor, norm: Norm
    ) -> None:
        self.normals, self.needed, self.norm = normals, needed, norm
        self.quadratic, self.cost = (1.0 if norm == "l2" else _REGULARISATION / low.shape[1]), float(norm == "l1")
        linf = norm == "linf"
        self.signs, self.widths = low.new_ones(4 if linf else 2, 1), low.new_zeros(4 if linf else 2, 1)
        self.signs[1::2], self.widths[2:] = -1.0, 1.0  # not from a list, whose copy would wait for an accelerator
        self.limits = torch.stack((low, -high, *([torch.zeros_like(low)] * (2 if linf else 0))), dim=1)
        self.dense_costs = low.new_full((2 if linf else 1,), _PENALTY)
        self.dense_costs[:-1] = 1.0
        # Which dense variables a half-space contains, and which a bound on a pixel: s and ε.
        self.in_half_spaces = torch.zeros_like(self.dense_costs)
        self.in_half_spaces[-1] = 1.0

    def solve(self) -> torch.Tensor:
        """Returns δ, shape (batch, pixels)."""
        batch, _, pixels = self.normals.shape
        self.best = self.delta = self.normals.new_zeros(batch, pixels)
        self.lowest_error = self.normals.new_full((batch,), math.inf)
        self.dense = torch.ones_like(self.dense_costs).repeat(batch, 1)
        bounds, half_spaces, _ = (value.clamp(min=_MIN_SLACK) for value in self._constraints(self.delta, self.dense))
        # With equal products of slacks and multipliers, and almost stationary, the first steps are long.
        product = {"linf": 0.5 / pixels, "l2": 1 / pixels, "l1": _MIN_SLACK}[self.norm]
        free = self.dense_costs[-1] - (product / half_spaces).sum(dim=1, keepdim=True)
        self.slacks = [bounds, half_spaces, product / free]
        self.multipliers = [product / slack for slack in self.slacks]
        self.dense[:, -1:] = self.slacks[2]
        active = torch.ones(batch, dtype=torch.bool, device=self.delta.device)
        for count in range(1, _ITERATIONS + 1):
            active = active & self._step(active)
            # Steps that change nothing take less time on an accelerator than to wait after each.
            if (active.device.type == "cpu" or count == _USUAL_ITERATIONS) and not active.any():
                break
        return self.best

    def _constraints(self, delta: torch.Tensor, dense: torch.Tensor) -> list[torch.Tensor]:
        """Returns what must not be negative: of bounds, of half-spaces, and s itself, each less its constant."""
        bounds, half_spaces, slack = self._linear(delta, dense)
        return [bounds - self.limits, half_spaces - self.needed, slack]

    def _linear(self, delta: torch.Tensor, dense: torch.Tensor) -> list[torch.Tensor]:
        bounds = self.signs * delta[:, None] + self.widths * dense[:, :1, None]
        half_spaces = torch.einsum("bmn,bn->bm", self.normals, delta) + dense[:, -1:]
        return [bounds, half_spaces, dense[:, -1:]]

    def _transposed(self, values: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the transpose of :meth:`_linear` applied to values of the constraints."""
        bounds, half_spaces, slack = values
        delta = (self.signs * bounds).sum(dim=1) + torch.einsum("bmn,bm->bn", self.normals, half_spaces)
        dense = half_spaces.sum(dim=1, keepdim=True) + slack
        if len(self.dense_costs) == 2:
            dense = torch.cat(((self.widths * bounds).sum(dim=(1, 2))[:, None], dense), dim=1)
        return delta, dense

    def _step(self, active: torch.Tensor) -> torch.Tensor:
        """Takes one predictor-corrector step with the active samples; returns which samples are not done."""
        from_delta, from_dense = self._transposed(self.multipliers)
        dual = self.quadratic * self.delta + self.cost - from_delta, self.dense_costs - from_dense
        primal = [g - s for g, s in zip(self._constraints(self.delta, self.dense), self.slacks, strict=True)]
        count = sum(slack[0].numel() for slack in self.slacks)
        gap = self._sum_of_products(self.slacks, self.multipliers) / count
        residual = torch.stack([value.abs().flatten(1).amax(dim=1) for value in (*dual, *primal)]).amax(dim=0)
        error = torch.maximum(gap * count / _MAX_GAP, residual / _MAX_RESIDUAL)
        better = active & (error < self.lowest_error)
        self.best = torch.where(better[:, None], self.delta, self.best)
        self.lowest_error = torch.where(better, error, self.lowest_error)
        active = active & ~(error < 1)
        system = _Reduced(self)
        products = [s * z for s, z in zip(self.slacks, self.multipliers, strict=True)]
        affine = system.direction(dual, primal, products)
        length = self._length(affine)
        moved = [s + length.reshape(-1, *[1] * (s.ndim - 1)) * d for s, d in zip(self.slacks, affine[2], strict=True)]
        moved_dual = [
            z + length.reshape(-1, *[1] * (z.ndim - 1)) * d for z, d in zip(self.multipliers, affine[3], strict=True)
        ]
        target = (self._sum_of_products(moved, moved_dual) / (count * gap)).pow(3) * gap
        corrected = [
            product + ds * dz - target.reshape(-1, *[1] * (ds.ndim - 1))
            for product, ds, dz in zip(products, affine[2], affine[3], strict=True)
        ]
        direction = system.direction(dual, primal, corrected)
        length = _STEP_SHARE * self._length(direction)
        usable = active & length.isfinite() & direction[0].isfinite().all(dim=1) & direction[1].isfinite().all(dim=1)
        self._move(direction, torch.where(usable, length, 0.0), usable)
        return usable

    def _move(self, direction: _Direction, length: torch.Tensor, usable: torch.Tensor) -> None:
        def moved(value: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
            shape = (-1, *[1] * (value.ndim - 1))
            return torch.where(usable.reshape(shape), value + length.reshape(shape) * change, value)

        self.delta, self.dense = moved(self.delta, direction[0]), moved(self.dense, direction[1])
        self.slacks = [moved(s, d) for s, d in zip(self.slacks, direction[2], strict=True)]
        self.multipliers = [moved(z, d) for z, d in zip(self.multipliers, direction[3], strict=True)]

    def _length(self, direction: _Direction) -> torch.Tensor:
        """Returns the longest step, at most 1, that keeps slacks and multipliers positive; shape (batch,)."""
        longest = self.delta.new_ones(len(self.delta))
        for values, changes in ((self.slacks, direction[2]), (self.multipliers, direction[3])):
            for value, change in zip(values, changes, strict=True):
                ratio = torch.where(change < 0, -value / change, 1.0)
                longest = torch.minimum(longest, ratio.flatten(1).amin(dim=1))
        return longest

    @staticmethod
    def _sum_of_products(slacks: list[torch.Tensor], multipliers: list[torch.Tensor]) -> torch.Tensor:
        products = [(s * z).flatten(1).sum(dim=1) for s, z in zip(slacks, multipliers, strict=True)]
        return torch.stack(products).sum(dim=0)


class _Reduced:
    """Newton's linear system for the dense variables and the half-spaces, after elimination of the pixels.

    Args:
        problem: The problem, whose slacks and multipliers define the system.
    """

    def __init__(self, problem: _Problem) -> None:
        self.problem = problem
        self.ratios = [z / s for s, z in zip(problem.slacks, problem.multipliers, strict=True)]
        bounds, half_spaces, slack = self.ratios
        normals = problem.normals
        self.diagonal = problem.quadratic + bounds.sum(dim=1)
        self.border = normals.new_zeros(*self.diagonal.shape, len(problem.dense_costs))
        corner = normals.new_zeros(len(normals), len(problem.dense_costs), len(problem.dense_costs))
        corner[:, -1, -1] = slack[:, 0]
        if len(problem.dense_costs) == 2:
            self.border[:, :, 0] = (problem.signs * problem.widths * bounds).sum(dim=1)
            corner[:, 0, 0] = (problem.widths * bounds).sum(dim=(1, 2))
        self.scaled_normals = normals / self.diagonal[:, None]
        scaled_border = self.border / self.diagonal[:, :, None]
        cross = problem.in_half_spaces - normals @ scaled_border
        top = torch.cat((corner - self.border.mT @ scaled_border, cross.mT), dim=2)
        own = -torch.diag_embed(half_spaces.reciprocal()) - normals @ self.scaled_normals.mT
        matrix = torch.cat((top, torch.cat((cross, own), dim=2)), dim=1)
        self.factors = torch.linalg.lu_factor_ex(matrix)[:2]

    def direction(
        self, dual: tuple[torch.Tensor, torch.Tensor], primal: list[torch.Tensor], products: list[torch.Tensor]
    ) -> _Direction:
        """Returns the changes of δ, of the dense variables, of the slacks and of the multipliers.

        Args:
            dual: Residuals of stationarity.
            primal: Residuals of the constraints.
            products: What slack · multiplier has to lose.
        """
        problem = self.problem
        constants = [
            -(product + z * residual) / s
            for product, z, residual, s in zip(products, problem.multipliers, primal, problem.slacks, strict=True)
        ]
        from_delta, from_dense = problem._transposed(constants)
        right_delta, right_dense = from_delta - dual[0], from_dense - dual[1]
        scaled = (right_delta / self.diagonal)[:, :, None]
        right = torch.cat((right_dense[:, :, None] - self.border.mT @ scaled, -problem.normals @ scaled), dim=1)
        solution = torch.linalg.lu_solve(*self.factors, right)
        dense, half_spaces = solution[:, : right_dense.shape[1]], solution[:, right_dense.shape[1] :]
        delta = right_delta[:, :, None] - self.border @ dense - problem.normals.mT @ half_spaces
        delta, dense = delta[:, :, 0] / self.diagonal, dense[:, :, 0]
        linear = problem._linear(delta, dense)
        slacks = [value + residual for value, residual in zip(linear, primal, strict=True)]
        multipliers = [c - r * value for c, r, value in zip(constants, self.ratios, linear, strict=True)]
        return delta, dense, slacks, multipliers
