"""Example images of a cell, clean, attacked and defended, with the model's predictions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from advbench.analysis import CellExamples, Views
from advbench.analysis.samples import sample_ids
from advbench.api import SampleRandom
from advbench.contracts.models import are_probabilities
from advbench.errors import UnknownNameError, UsageError
from advbench.evaluation.plan.keys import fitted_keys
from advbench.evaluation.work.artefacts import chain_artefacts
from advbench.evaluation.work.behaviour.component_changes import ComponentChanges
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.evaluation.work.networks import ask_network
from advbench.evaluation.work.workspace import Workspace
from advbench.process.state import isolated_process
from advbench.process.working_folder import working_folder

__all__ = ["ExampleImages"]

TRIED = 5
"""The model is run on so many times more samples than are shown, to find some that it classifies correctly."""


_MAX_PREDICTED = 32
"""How many views of images are kept: clean images are those of many cells, oblivious attacks' those of all defenses."""


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
        self._predicted: dict[tuple[object, ...], Views] = {}

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
            self._view(model, images, ids),
            self._view(model, adversarial, ids),
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
            chosen: list[int] = []
            candidates = class_round_robin(labels)[: TRIED * self.count]
            for start in range(0, len(candidates), self.count):
                if len(chosen) >= self.count:
                    break
                positions = candidates[start : start + self.count]
                some = [ids[position] for position in positions]
                predictions = self._view(model, data.take(some)[0], some).predictions
                chosen += [
                    position
                    for position, prediction in zip(positions, predictions, strict=True)
                    if prediction == labels[position]
                ]
            self._chosen[dataset, model, len(ids)] = tuple(dict.fromkeys([*chosen, *candidates]))[: self.count]
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
        rng = self._streams(ids)
        given = images.to(self.workspace.device).clone()
        chain = self.workspace.chain(described["defense"])
        if chain.classifying is None and chain.output_shape(_shape(images)) == _shape(images):
            return self._view(described["model"], chain.apply(given, rng), ids)
        # There are no images of this shape between the defense and the model to show.
        fitted = chain_artefacts(self.workspace, described["defense"], self._fitted_keys(described))
        passed = ChainPass(chain, self.workspace.network(described["model"]), self.workspace.batch_size, fitted)
        return _views(images, passed.answer(given, rng).logits)

    def _fitted_keys(self, described: Mapping[str, Any]) -> tuple[str, ...]:
        store = self.workspace.store
        clean = (store.read_key_inputs("cells", described["key"]) or {}).get("clean", "")
        return fitted_keys(store.read_key_inputs("clean", clean) or {}) if clean else ()

    def _streams(self, ids: Sequence[int]) -> SampleRandom:
        """The random streams of the first draw of the score."""
        return SampleRandom(self.manifest["seed"], "defense", ids, self.workspace.device)

    def _view(self, model: str, images: torch.Tensor, ids: Sequence[int]) -> Views:
        """Images as the model without a defense predicts them."""
        if self.workspace.model(model).image_shape not in (None, _shape(images)):
            raise UsageError(f"model {model!r} cannot predict images of shape {_shape(images)} without the defense")
        content = images.contiguous().cpu().numpy()
        key = (model, tuple(ids), content.shape, hashlib.sha256(content.data).digest())
        found = self._predicted.pop(key, None)
        if found is None:
            on_device = images.to(self.workspace.device)
            found = _views(images, ask_network(self.workspace.network(model), on_device, self._streams(ids)))
        self._predicted[key] = found  # as the last one
        if len(self._predicted) > _MAX_PREDICTED:
            self._predicted.pop(next(iter(self._predicted)))
        return found


def _shape(images: torch.Tensor) -> tuple[int, int, int]:
    channels, height, width = images.shape[1:]
    return channels, height, width


def _views(images: torch.Tensor, logits: torch.Tensor) -> Views:
    output = logits.to(torch.float32)
    probabilities = output if are_probabilities(output) else torch.softmax(output, dim=1)
    best = probabilities.max(dim=1)
    return Views(images.cpu().float().numpy(), best.indices.cpu().numpy(), best.values.cpu().float().numpy())


def class_round_robin(labels: Sequence[int]) -> list[int]:
    """Positions in an order that takes the first sample of each class in turn, then the second of each, and so on."""
    count: dict[int, int] = {}
    ranked = []
    for position, label in enumerate(labels):
        count[label] = count.get(label, -1) + 1
        ranked.append((count[label], label, position))
    return [position for _, _, position in sorted(ranked)]
