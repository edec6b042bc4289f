"""Scoring: what a defended model says of clean and of adversarial images."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from advbench.api import SampleRandom
from advbench.contracts.defenses import check_defended, check_range
from advbench.contracts.images import check_unchanged
from advbench.errors import blamed
from advbench.evaluation.plan.cells import CHUNK
from advbench.evaluation.plan.tasks import CleanTask, ScoreTask
from advbench.evaluation.work.probes import PROBED, probe
from advbench.evaluation.work.workspace import Workspace
from advbench.specs import full_spec

__all__ = ["predict_clean", "score"]


_OF_ATTACK = {
    "clean_predictions": "attacked_clean_predictions",
    "predictions": "attacked_predictions",
    "rounded_predictions": "attacked_rounded_predictions",
    "seen": "seen",
    "vanished": "vanished",
    "nan_gradient": "nan_gradient",
    "flat_at_bounds": "flat_at_bounds",
    "loss_without_slope": "loss_without_slope",
    "component": "component",
    "linf": "linf",
    "l2": "l2",
}
"""What is stored with adversarial images, and its name in a cell; entries of earlier versions lack some."""


_RARE = ("nan_gradient", "flat_at_bounds", "loss_without_slope")
"""What is left out of a cell where it holds of no sample."""


def predict_clean(place: Workspace, task: CleanTask, progress: Callable[[int], None]) -> None:
    """Predicts the clean images through a defense and stores labels and predictions.

    Raises:
        ContractError: The defense or the model broke its contract.
    """
    data = place.images(task.dataset)
    defended = _Defended(place, task.dataset, task.model, task.defense, seed=task.seed, progress=progress)
    began = time.perf_counter()
    labels: list[int] = []
    predictions: list[list[int]] = [[] for _ in range(task.draws)]
    for start in range(0, len(task.ids), CHUNK):
        ids = task.ids[start : start + CHUNK]
        images, chunk_labels = data.take(ids)
        labels += chunk_labels.tolist()
        defended.predict(images, ids, predictions)
    seconds = round(time.perf_counter() - began, 6)
    place.check_network(task.model, f"defense {task.defense!r}", nobody=task.defense == "none")
    short = place.batch_size < min(len(task.ids), place.environment.batch_size)  # of memory, for all at once
    few = task.ids[: min(PROBED, place.batch_size) if short else PROBED]
    probes = probe(
        place.network(task.model), place.chain(task.defense), data.take(few)[0].to(place.device), few, task.seed
    )
    place.check_process(f"defense {task.defense!r}")
    record = {
        "labels": labels,
        "predictions": predictions[0],
        **_others(predictions),
        "probes": probes,
        "seconds": seconds,
    }
    place.store.write_record("clean", task.key_inputs, record)


def score(place: Workspace, task: ScoreTask, progress: Callable[[int], None]) -> None:
    """Predicts a cell's adversarial images through its defense and stores the cell.

    Raises:
        ContractError: The defense or the model broke its contract.
        LookupError: What the cell is made of is not in the store.
    """
    clean = place.store.read_record("clean", task.clean)
    if clean is None:
        raise LookupError(f"clean predictions {task.clean} have gone from the store; run the command again")
    specs = task.specs
    defended = _Defended(place, specs["dataset"], specs["model"], specs["defense"], seed=task.seed, progress=progress)
    predictions: list[list[int]] = [[] for _ in range(task.draws)]
    attacked: dict[str, list[Any]] = {name: [] for name in _OF_ATTACK}
    seconds = craft_seconds = 0.0
    asked, raised = 0, ""
    for key, ids in task.chunks:
        stored = place.store.read_tensors(key)
        if stored is None:
            raise LookupError(f"adversarial images {key} have gone from the store; run the command again")
        tensors, crafted = stored
        began = time.perf_counter()
        defended.predict(tensors["images"], ids, predictions)
        seconds += time.perf_counter() - began
        craft_seconds += crafted["seconds"]
        asked, raised = asked + crafted.get("images_asked", 0), raised or crafted.get("gradient_error", "")
        for name, values in attacked.items():
            values.extend(tensors[name].tolist() if name in tensors else [])
    place.check_process(f"defense {specs['defense']!r}")
    cell = {
        **task.specs,
        "status": "ok",
        "n": len(predictions[0]),
        "seconds": round(seconds, 6),
        "craft_seconds": round(craft_seconds, 6),
        "labels": clean["labels"],
        "clean_predictions": clean["predictions"],
        "clean_correct": _bits(clean["predictions"], clean["labels"]),
        "adversarial_predictions": predictions[0],
        "adversarial_correct": _bits(predictions[0], clean["labels"]),
        **_draws(clean, predictions),
        **{
            _OF_ATTACK[name]: values
            for name, values in attacked.items()
            if values and (name not in _RARE or any(values))
        },
        "images_asked": asked or None,
        "gradient_error": raised,
        "probes": clean.get("probes"),
    }
    place.store.write_record("cells", task.key_inputs, cell)


class _Defended:
    """A model behind a defense."""

    def __init__(
        self,
        place: Workspace,
        dataset: str,
        model: str,
        defense: str,
        *,
        seed: int,
        progress: Callable[[int], None],
    ) -> None:
        self.place = place
        self.specs, self.model = (model, dataset), place.model(model)
        self.network = place.network(model)
        self.chain = place.chain(defense)
        self.seed = seed
        self.progress = progress
        self.done = 0

    def predict(self, images: torch.Tensor, ids: Sequence[int], predictions: Sequence[list[int]]) -> None:
        """Adds the classes of these images to each draw's predictions, batch by batch."""
        size = self.place.batch_size
        for start in range(0, len(ids), size):
            part = slice(start, start + size)
            for draw, classes in enumerate(predictions):
                purpose = "defense" if draw == 0 else f"defense/{draw}"
                classes.extend(self._batch(images[part], ids[part], purpose))
            self.done += len(ids[part])
            self.progress(self.done)

    @torch.no_grad()
    def _batch(self, images: torch.Tensor, ids: Sequence[int], purpose: str) -> list[int]:
        name = full_spec(self.chain)
        images = images.to(self.place.device)
        given = images.clone()
        with blamed(f"defense {name!r}"):
            returned = self.chain.apply(given, SampleRandom(self.seed, purpose, ids, self.place.device))
        check_unchanged(f"defense {name!r}", "images", images, given)
        defended = check_defended(name, images, returned)
        check_range(name, defended, stochastic=self.chain.stochastic)
        with blamed(f"model {self.model.name!r}"):
            answer = self.network(defended)
        logits = self.place.check_answer(*self.specs, answer, len(ids), labels_only=True)
        classes: list[int] = logits.argmax(dim=1).tolist()
        return classes


def _others(predictions: Sequence[list[int]]) -> dict[str, list[list[int]]]:
    """The predictions of the draws after the first, where there are any."""
    return {"other_draws": list(predictions[1:])} if len(predictions) > 1 else {}


def _draws(clean: Mapping[str, Any], predictions: Sequence[list[int]]) -> dict[str, list[list[int]]]:
    """Per draw of the defense, where there are several, which samples are right both clean and attacked."""
    if len(predictions) == 1:
        return {}
    labels = clean["labels"]
    before = (clean["predictions"], *clean["other_draws"])
    pairs = zip(before, predictions, strict=True)
    return {
        "clean_correct_draws": [_bits(one, labels) for one in before],
        "robust_draws": [
            [a & b for a, b in zip(_bits(one, labels), _bits(other, labels), strict=True)] for one, other in pairs
        ],
    }


def _bits(predictions: Sequence[int], labels: Sequence[int]) -> list[int]:
    """1 where the prediction is the label, 0 elsewhere."""
    return [int(prediction == label) for prediction, label in zip(predictions, labels, strict=True)]
