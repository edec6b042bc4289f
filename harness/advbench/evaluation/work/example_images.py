"""ExampleImages: a few samples of a cell as images, with what the model says of each, for people to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from advbench.analysis import CellExamples, Views
from advbench.api import SampleRandom
from advbench.contracts.models import are_probabilities
from advbench.errors import UsageError
from advbench.evaluation.plan.cells import CHUNK
from advbench.evaluation.work.workspace import Workspace
from advbench.process.state import process_kept

__all__ = ["ExampleImages"]

TRIED = 5
"""So many times more samples than are shown are tried, for the model to have right."""


class ExampleImages:
    """The example images of a run.

    Args:
        place: Where components are loaded, and the store.
        manifest: The run's.
        count: How many samples: of each class in turn the first that the bare model has right; fewer where it has
            hardly any right.
    """

    def __init__(self, place: Workspace, manifest: Mapping[str, Any], count: int) -> None:
        self.place = place
        self.manifest = manifest
        self.count = count
        self._chosen: dict[tuple[str, str], tuple[int, ...]] = {}
        self._views: dict[tuple[str, ...], Views] = {}

    @torch.no_grad()
    @process_kept()
    def of(self, described: Mapping[str, Any]) -> CellExamples:
        """The example images of one finished cell, as the manifest describes it.

        Raises:
            UsageError: Its images are no longer in the store.
        """
        dataset, model, defense = (described[name] for name in ("dataset", "model", "defense"))
        places = self._choose(dataset, model)
        ids = tuple(self.manifest["samples"][dataset][place] for place in places)
        images, labels = self.place.images(dataset).take(ids)
        adversarial = self._adversarial(described, places)
        return CellExamples(
            ids,
            labels.numpy(),
            self._view(model, images),
            self._view(model, adversarial),
            self._defended(described, adversarial, ids),
            self._kept((dataset, model, defense), described, images, ids),
            tuple(self.manifest.get("class_names", {}).get(dataset, ())),
        )

    def _choose(self, dataset: str, model: str) -> tuple[int, ...]:
        """Places among the run's samples."""
        if (dataset, model) not in self._chosen:
            ids = self.manifest["samples"][dataset]
            data, size = self.place.images(dataset), self.place.environment.batch_size
            starts = range(0, len(ids), size)
            labels = [int(label) for start in starts for label in data.take(ids[start : start + size])[1]]
            chosen: list[int] = []
            candidates = by_turns(labels)[: TRIED * self.count]
            for start in range(0, len(candidates), self.count):
                if len(chosen) >= self.count:
                    break
                places = candidates[start : start + self.count]
                said = self._view(model, data.take([ids[place] for place in places])[0]).predictions
                chosen += [place for place, one in zip(places, said, strict=True) if one == labels[place]]
            self._chosen[dataset, model] = tuple(chosen[: self.count])
        return self._chosen[dataset, model]

    def _adversarial(self, described: Mapping[str, Any], places: Sequence[int]) -> torch.Tensor:
        store = self.place.store
        keys = (store.read_key_inputs("cells", described["key"]) or {"adversarial": []})["adversarial"]
        chunks: dict[int, torch.Tensor] = {}
        for number in sorted({place // CHUNK for place in places}):
            stored = store.read_tensors(keys[number]) if number < len(keys) else None
            if stored is None:
                raise UsageError("its adversarial images are no longer in the store; repeat the run's command")
            chunks[number] = stored[0]["images"]
        return torch.stack([chunks[place // CHUNK][place % CHUNK] for place in places])

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
        answer = self.place.network(model)(images.to(self.place.device)).to(torch.float32)
        shares = answer if are_probabilities(answer) else torch.softmax(answer, dim=1)
        best = shares.max(dim=1)
        return Views(images.cpu().float().numpy(), best.indices.cpu().numpy(), best.values.cpu().float().numpy())


def by_turns(labels: Sequence[int]) -> list[int]:
    """Places in an order that takes one of each class, the smallest first, then another of each, and so on."""
    seen: dict[int, int] = {}
    ranked = []
    for place, label in enumerate(labels):
        seen[label] = seen.get(label, -1) + 1
        ranked.append((seen[label], label, place))
    return [place for _, _, place in sorted(ranked)]
