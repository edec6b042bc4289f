"""Samples of the results of an evaluation from Python, with the live objects of this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advbench.analysis import CellExamples
from advbench.api import Component
from advbench.errors import UsageError
from advbench.evaluation.work.examples.example_images import ExampleImages
from advbench.live.wrappers import has_changed
from advbench.session.run import MatrixRun
from advbench.specs import resolve_chain, resolve_one

__all__ = ["LiveExamples", "live_examples"]


class LiveExamples(ExampleImages):
    """Example images of the cells; live objects must be as they were when they were evaluated."""

    _live_changes: dict[tuple[str, str], bool] | None = None

    def of(self, described: Mapping[str, Any]) -> CellExamples:
        """The example images of one finished cell, as the manifest describes it.

        Raises:
            UsageError: A live object has changed since, or the store no longer holds the cell's images.
        """
        for kind in ("model", "defense"):
            if self._has_live_change(kind, described[kind]):
                raise UsageError(f"the {kind} has changed since it was evaluated; evaluate it again")
        return super().of(described)

    def _has_live_change(self, kind: str, spec: str) -> bool:
        """Whether a live component is no longer as it was; computed once, since it reads all weights."""
        if self._live_changes is None:
            self._live_changes = {}
        if (kind, spec) not in self._live_changes:
            registry = self.workspace.registry
            parts: tuple[Component, ...] = (
                resolve_chain(registry, spec)[0].parts
                if kind == "defense"
                else (resolve_one(registry, f"{kind}s", spec),)
            )
            self._live_changes[kind, spec] = any(map(has_changed, parts))
        return self._live_changes[kind, spec]


def live_examples(run: MatrixRun, count: int) -> LiveExamples:
    """The example images of a run.

    Args:
        run: A run with results.
        count: How many samples of each cell.
    """
    return LiveExamples(run.examples().workspace, run.manifest, count)
