"""Example images of a cell, clean, attacked and defended, with the model's predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from advbench.analysis import CellExamples, Views
from advbench.analysis.samples import sample_ids
from advbench.errors import UnknownNameError, UsageError
from advbench.evaluation.plan.keys import fitted_keys
from advbench.evaluation.work.artefacts import chain_artefacts
from advbench.evaluation.work.behaviour.component_changes import ComponentChanges
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.evaluation.work.examples.undefended import (
    UndefendedViews,
    choose_samples,
    first_draw,
    image_shape,
    views_of,
)
from advbench.evaluation.work.workspace import Workspace
from advbench.process.state import isolated_process
from advbench.process.working_folder import working_folder

__all__ = ["ExampleImages"]


class ExampleImages:
    """The example images of a run.

    Args:
        workspace: Where components are loaded, with the store.
        manifest: The run's manifest.
        count: How many samples to show: of each class in turn the first that the undefended model classifies correctly;
            if there are too few of these, also others.
        folder: Where the relative paths of specs start; None for the working directory.
        problems: Why plugin files of the run are not loaded; the reason where a component is unknown.
    """

    def __init__(
        self,
        workspace: Workspace,
        manifest: Mapping[str, Any],
        count: int,
        *,
        folder: Path | None = None,
        problems: Sequence[str] = (),
    ) -> None:
        self.workspace = workspace
        self.manifest = manifest
        self.count = count
        self.folder = folder
        self.problems = problems
        self._changes = ComponentChanges(workspace, manifest)
        self._changed: dict[str, dict[str, None]] = {}
        self._chosen: dict[tuple[str, str, int], tuple[int, ...]] = {}
        self._views: dict[tuple[str, ...], Views] = {}
        self._undefended = UndefendedViews(workspace, manifest["seed"])

    @property
    def notes(self) -> list[str]:
        """What readers of the samples should know of them: components that have changed since the run."""
        if not self._changed:
            return []
        changed = "; ".join(f"{what} ({', '.join(components)})" for what, components in self._changed.items())
        return [
            "The samples are of the components as they are now, and the numbers are those of the run. "
            f"Changed since the run: {changed}."
        ]

    def of(self, described: Mapping[str, Any]) -> CellExamples:
        """The example images of one finished cell, as the manifest describes it.

        Raises:
            UsageError: The store no longer holds its images, a plugin file of the run is not loaded, the model has
                changed, or it cannot take the dataset's images without the defense.
        """
        with working_folder(self.folder):
            try:
                return self._of(described)
            except UnknownNameError as error:
                if not self.problems:
                    raise
                raise UsageError("; ".join(self.problems)) from error

    @torch.no_grad()
    @isolated_process()
    def _of(self, described: Mapping[str, Any]) -> CellExamples:
        dataset, model, defense = (described[name] for name in ("dataset", "model", "defense"))
        changes = self._changes.of(described)
        if changes.refusal:
            raise UsageError(changes.refusal)
        samples = sample_ids(self.manifest, described)
        positions = self._choose(dataset, model, samples)
        ids = tuple(samples[position] for position in positions)
        images, labels = self.workspace.images(dataset).take(ids)
        adversarial = self._adversarial(described, positions)
        examples = CellExamples(
            ids,
            labels.numpy(),
            self._undefended.of(model, images, ids),
            self._undefended.of(model, adversarial, ids),
            self._defended(described, adversarial, ids),
            self._defended_once((dataset, model, defense), described, images, ids),
            tuple(self.manifest.get("class_names", {}).get(dataset, ())),
        )
        for what, component in changes.parts:
            self._changed.setdefault(what, {})[component] = None
        return examples

    def _choose(self, dataset: str, model: str, ids: Sequence[int]) -> tuple[int, ...]:
        """Positions of the shown samples among those of a cell."""
        if (dataset, model, len(ids)) not in self._chosen:
            data, size = self.workspace.images(dataset), self.workspace.environment.batch_size
            starts = range(0, len(ids), size)
            labels = [int(label) for start in starts for label in data.take(ids[start : start + size])[1]]

            def predicted(positions: list[int]) -> npt.NDArray[np.int64]:
                some = [ids[position] for position in positions]
                return self._undefended.of(model, data.take(some)[0], some).predictions

            self._chosen[dataset, model, len(ids)] = choose_samples(labels, self.count, predicted)
        return self._chosen[dataset, model, len(ids)]

    def _adversarial(self, described: Mapping[str, Any], positions: Sequence[int]) -> torch.Tensor:
        store = self.workspace.store
        keys = (store.read_key_inputs("cells", described["key"]) or {"adversarial": []})["adversarial"]

        def read(number: int) -> torch.Tensor:
            stored = store.read_tensors(keys[number]) if number < len(keys) else None
            if stored is None:
                raise UsageError(
                    "its adversarial images are damaged or no longer in the store; to compute them again, repeat the "
                    "run's command with --rerun all (from Python, rerun='all')"
                )
            return stored[0]["images"]

        chunks = {0: read(0)}
        size = len(chunks[0])  # that of all chunks but the last
        for number in sorted({position // size for position in positions} - {0}):
            chunks[number] = read(number)
        return torch.stack([chunks[position // size][position % size] for position in positions])

    def _defended_once(
        self, key: tuple[str, ...], described: Mapping[str, Any], images: torch.Tensor, ids: Sequence[int]
    ) -> Views:
        if key not in self._views:
            self._views[key] = self._defended(described, images, ids)
        return self._views[key]

    def _defended(self, described: Mapping[str, Any], images: torch.Tensor, ids: Sequence[int]) -> Views:
        rng = first_draw(self.workspace, self.manifest["seed"], ids)
        given = images.to(self.workspace.device).clone()
        chain = self.workspace.chain(described["defense"])
        if chain.classifying is None and chain.output_shape(image_shape(images)) == image_shape(images):
            return self._undefended.of(described["model"], chain.apply(given, rng), ids)
        # There are no images of this shape between the defense and the model to show.
        fitted = chain_artefacts(self.workspace, described["defense"], self._fitted_keys(described))
        passed = ChainPass(chain, self.workspace.network(described["model"]), self.workspace.batch_size, fitted)
        return views_of(images, passed.answer(given, rng).logits)

    def _fitted_keys(self, described: Mapping[str, Any]) -> tuple[str, ...]:
        store = self.workspace.store
        clean = (store.read_key_inputs("cells", described["key"]) or {}).get("clean", "")
        return fitted_keys(store.read_key_inputs("clean", clean) or {}) if clean else ()
