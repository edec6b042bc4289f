"""Exhibits: a few samples of a cell as images, with what the model says of each, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from advbench.analysis import Exhibit, Views
from advbench.api import SampleRandom
from advbench.errors import UsageError
from advbench.evaluation.cells import CHUNK
from advbench.evaluation.environment import Workspace

__all__ = ["Exhibits"]


class Exhibits:
    """The exhibits of a run.

    Args:
        place: Where components are loaded, and the store.
        manifest: The run's.
        count: How many samples: the first in the run's order that the bare model has right, fewer where the first 500
            do not have so many.
    """

    def __init__(self, place: Workspace, manifest: Mapping[str, Any], count: int) -> None:
        self.place = place
        self.manifest = manifest
        self.count = count
        self._chosen: dict[tuple[str, str], tuple[int, ...]] = {}
        self._views: dict[tuple[str, ...], Views] = {}

    @torch.no_grad()
    def of(self, described: Mapping[str, Any]) -> Exhibit:
        """The exhibit of one finished cell, as the manifest describes it.

        Raises:
            UsageError: Its images are no longer in the store.
        """
        dataset, model, defense = (described[name] for name in ("dataset", "model", "defense"))
        places = self._choose(dataset, model)
        ids = tuple(self.manifest["samples"][dataset][place] for place in places)
        images, labels = self.place.images(dataset).take(ids)
        adversarial = self._adversarial(described, places)
        return Exhibit(
            ids,
            labels.numpy(),
            self._view(model, images),
            self._view(model, adversarial),
            self._defended(described, adversarial, ids),
            self._kept((dataset, model, defense), described, images, ids),
        )

    def _choose(self, dataset: str, model: str) -> tuple[int, ...]:
        """Places among the run's samples."""
        if (dataset, model) not in self._chosen:
            ids = self.manifest["samples"][dataset][:CHUNK]
            size, right = self.place.environment.batch_size, []
            for start in range(0, len(ids), size):
                images, labels = self.place.images(dataset).take(ids[start : start + size])
                said = self._view(model, images).predictions
                right += [start + at for at in np.flatnonzero(said == labels.numpy()).tolist()]
                if len(right) >= self.count:
                    break
            self._chosen[dataset, model] = tuple(right[: self.count])
        return self._chosen[dataset, model]

    def _adversarial(self, described: Mapping[str, Any], places: Sequence[int]) -> torch.Tensor:
        store = self.place.store
        material = store.read_material("cells", described["key"]) or {"adversarial": []}
        first = store.read_tensors(material["adversarial"][0]) if material["adversarial"] else None
        if first is None:
            raise UsageError("its adversarial images are no longer in the store; repeat the run's command")
        images: torch.Tensor = first[0]["images"][list(places)]
        return images

    def _kept(
        self, key: tuple[str, ...], described: Mapping[str, Any], images: torch.Tensor, ids: Sequence[int]
    ) -> Views:
        if key not in self._views:
            self._views[key] = self._defended(described, images, ids)
        return self._views[key]

    def _defended(self, described: Mapping[str, Any], images: torch.Tensor, ids: Sequence[int]) -> Views:
        rng = SampleRandom(self.manifest["seed"], "defense", ids, self.place.device)
        given = images.to(self.place.device).clone()
        returned = self.place.chain(described["defense"]).apply(given, rng)
        return self._view(described["model"], returned)

    def _view(self, model: str, images: torch.Tensor) -> Views:
        shares = torch.softmax(self.place.network(model)(images.to(self.place.device)), dim=1)
        best = shares.max(dim=1)
        return Views(images.cpu().float().numpy(), best.indices.cpu().numpy(), best.values.cpu().float().numpy())
