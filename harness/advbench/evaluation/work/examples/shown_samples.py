"""The samples of a cell that the run's page shows: kept while the cell is scored, so that the page computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from advbench.analysis import SHOWN_SAMPLES, Views, sample_rows
from advbench.contracts.access import check_access
from advbench.evaluation.plan.tasks import ScoreTask
from advbench.evaluation.work.examples.undefended import UndefendedViews, choose_samples, views_of
from advbench.evaluation.work.workspace import Workspace

__all__ = ["ShownSamples"]


class ShownSamples:
    """Collects the shown samples of one cell.

    There are none if the undefended model cannot predict them, or if it gives labels or scores only: such a model may
    be paid for each image.

    Args:
        workspace: Where components are loaded.
        task: The cell.
        labels: The labels of its samples.
    """

    def __init__(self, workspace: Workspace, task: ScoreTask, labels: Sequence[int]) -> None:
        self._workspace = workspace
        self._dataset, self._model = task.specs["dataset"], task.specs["model"]
        self._identity = workspace.chain(task.specs["defense"]).identity
        self._labels = labels
        self._undefended = workspace.undefended.setdefault(task.seed, UndefendedViews(workspace, task.seed))
        self._all = [sample for _, ids in task.chunks for sample in ids]
        self._kept: dict[int, tuple[torch.Tensor, Views]] = {}
        self._shown = self._choose()

    def keep(self, ids: Sequence[int], adversarial: torch.Tensor, defended: torch.Tensor, logits: torch.Tensor) -> None:
        """Keeps the shown ones of a batch.

        Args:
            ids: The sample ids.
            adversarial: The adversarial images.
            defended: The same after the defense; not shown if their shape differs.
            logits: What the defended model returned for them.
        """
        rows = [row for row, sample in enumerate(ids) if sample in self._shown]
        if rows:
            seen = defended if defended.shape == adversarial.shape else adversarial
            views = views_of(seen[rows], logits[rows])
            for at, row in enumerate(rows):
                self._kept[ids[row]] = adversarial[row].cpu().float(), _part(views, at)

    @torch.no_grad()
    def rows(self) -> Mapping[str, Any]:
        """The samples as the page shows them, from :func:`~advbench.analysis.sample_rows`; empty if there are none."""
        ids = list(self._shown)
        if not ids or len(self._kept) != len(ids):
            return {}
        kept = [self._kept[one][1] for one in ids]
        defended = Views(
            np.concatenate([one.images for one in kept]),
            np.concatenate([one.predictions for one in kept]),
            np.concatenate([one.confidences for one in kept]),
        )
        images = torch.stack([self._kept[one][0] for one in ids])
        if self._identity:
            self._undefended.keep(self._model, images, ids, defended)
        try:
            clean = self._undefended.of(self._model, self._images(ids), ids)
            adversarial = self._undefended.of(self._model, images, ids)
        except Exception:
            return {}
        return sample_rows(ids, list(self._shown.values()), clean, adversarial, defended)

    @torch.no_grad()
    def _choose(self) -> dict[int, int]:
        """The shown samples and their labels."""
        if check_access(self._workspace.model(self._model)) != "gradients":
            return {}

        def predicted(positions: Sequence[int]) -> Sequence[int]:
            some = [self._all[position] for position in positions]
            classes: list[int] = self._undefended.of(self._model, self._images(some), some).predictions.tolist()
            return classes

        try:
            positions = choose_samples(self._labels, SHOWN_SAMPLES, predicted)
        except Exception:  # the model behind the defense need not take images without it
            return {}
        return {self._all[position]: self._labels[position] for position in positions}

    def _images(self, ids: Sequence[int]) -> torch.Tensor:
        return self._workspace.images(self._dataset).take(ids)[0]


def _part(views: Views, at: int) -> Views:
    one = slice(at, at + 1)
    return Views(views.images[one], views.predictions[one], views.confidences[one])
