"""Scoring: predictions of a defended model for clean and for adversarial images."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from advbench.analysis.queries import CHECKPOINTS
from advbench.analysis.rejection import rejected_bits, right_bits
from advbench.api import Artefact, ContractError, SampleRandom
from advbench.contracts.defenses import check_defended, check_range, count_votes
from advbench.contracts.images import check_unchanged
from advbench.errors import blamed
from advbench.evaluation.plan.cells import CHUNK
from advbench.evaluation.plan.keys import fitted_keys
from advbench.evaluation.plan.tasks import CleanTask, ScoreTask
from advbench.evaluation.plan.threats import NO_ATTACKER
from advbench.evaluation.work.artefacts import chain_artefacts
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.evaluation.work.craft import TOTALS
from advbench.evaluation.work.examples.shown_samples import ShownSamples
from advbench.evaluation.work.networks import ask_network
from advbench.evaluation.work.probes import PROBED, probe
from advbench.evaluation.work.workspace import Workspace
from advbench.specs import full_spec

__all__ = ["predict_clean", "score"]


_ATTACK_FIELDS = {
    "clean_predictions": "attacked_clean_predictions",
    "predictions": "attacked_predictions",
    "rounded_predictions": "attacked_rounded_predictions",
    "seen": "seen",
    "vanished": "vanished",
    "nan_gradient": "nan_gradient",
    "flat_at_bounds": "flat_at_bounds",
    "loss_without_slope": "loss_without_slope",
    "component": "component",
    "targets": "targets",
    "linf": "linf",
    "l2": "l2",
    "size": "size",
    "forwards": "forwards",
    "backwards": "backwards",
    "first_success": "first_success",
}
"""Tensors stored with adversarial images, and their names in a cell; entries of earlier versions lack some."""

_FIRST = "defense"
"""The purpose of the random streams of the first draw."""

_RARE = ("nan_gradient", "flat_at_bounds", "loss_without_slope")
"""Fields that a cell leaves out if they are false for every sample."""


def predict_clean(workspace: Workspace, task: CleanTask, progress: Callable[[int], None]) -> None:
    """Predicts the clean images through a defense, and stores labels and predictions.

    Raises:
        ContractError: The defense or the model broke its contract.
    """
    data = workspace.images(task.dataset)
    fitted = chain_artefacts(workspace, task.defense, fitted_keys(task.key_inputs))
    defended = _DefendedModel(
        workspace, task.dataset, task.model, task.defense, seed=task.seed, fitted=fitted, progress=progress
    )
    began = time.perf_counter()
    labels: list[int] = []
    predictions: list[list[int]] = [[] for _ in range(task.draws)]
    for start in range(0, len(task.ids), CHUNK):
        ids = task.ids[start : start + CHUNK]
        images, chunk_labels = data.take(ids)
        labels += chunk_labels.tolist()
        defended.predict(images, ids, predictions)
    seconds = round(time.perf_counter() - began, 6)
    workspace.check_network(task.model, f"defense {task.defense!r}", model_only=task.defense == "none")
    memory_is_short = workspace.batch_size < min(len(task.ids), workspace.environment.batch_size)
    probed = task.ids[: min(PROBED, workspace.batch_size) if memory_is_short else PROBED]
    images = data.take(probed)[0].to(workspace.device)
    probes = probe(
        workspace.network(task.model), workspace.chain(task.defense), images, probed, task.seed, fitted=fitted
    )
    workspace.check_process(f"defense {task.defense!r}")
    record = {
        "labels": labels,
        "predictions": predictions[0],
        **_other_draws(predictions),
        **({} if (scores := defended.scores(len(labels))) is None else {"scores": scores}),
        "probes": probes,
        "seconds": seconds,
    }
    workspace.store.write_record("clean", task.key_inputs, record)


def score(workspace: Workspace, task: ScoreTask, progress: Callable[[int], None]) -> None:
    """Predicts a cell's adversarial images through its defense and stores the cell.

    Raises:
        ContractError: The defense or the model broke its contract.
        LookupError: The store lacks predictions or images that the cell needs.
    """
    clean = workspace.store.read_record("clean", task.clean)
    if clean is None:
        raise LookupError(f"clean predictions {task.clean} have gone from the store; run the command again")
    specs = task.specs
    keys = fitted_keys(workspace.store.read_key_inputs("clean", task.clean) or {})
    fitted = chain_artefacts(workspace, specs["defense"], keys)
    components = (specs["dataset"], specs["model"], specs["defense"])
    shown = ShownSamples(workspace, task, clean["labels"])
    defended = _DefendedModel(workspace, *components, seed=task.seed, fitted=fitted, progress=progress, shown=shown)
    predictions: list[list[int]] = [[] for _ in range(task.draws)]
    attacked: dict[str, list[Any]] = {name: [] for name in _ATTACK_FIELDS}
    seconds = craft_seconds = 0.0
    gradient_error, totals, best_sizes = "", Counter[str](), list[Any]()
    for key, ids in task.chunks:
        stored = workspace.store.read_tensors(key)
        if stored is None:
            raise LookupError(f"adversarial images {key} have gone from the store; run the command again")
        tensors, facts = stored
        began = time.perf_counter()
        defended.predict(tensors["images"], ids, predictions)
        seconds += time.perf_counter() - began
        craft_seconds += facts["seconds"]
        totals += Counter({name: facts.get(name, 0) for name in TOTALS})
        best_sizes.extend(tensors["best_sizes"].tolist() if "best_sizes" in tensors else [])
        gradient_error = gradient_error or facts.get("gradient_error", "")
        for name, values in attacked.items():
            values.extend(tensors[name].tolist() if name in tensors else [])
    shown_rows = shown.rows()
    workspace.check_process(f"defense {specs['defense']!r}")
    _check_targets(specs["attack"], attacked["targets"])
    scores = defended.scores(len(predictions[0]))
    right = _Right(clean, predictions, scores, attacked=specs["threat"] != NO_ATTACKER.name)
    cell = {
        **task.specs,
        "status": "ok",
        "n": len(predictions[0]),
        "seconds": round(seconds, 6),
        "craft_seconds": round(craft_seconds, 6),
        "labels": clean["labels"],
        "clean_predictions": clean["predictions"],
        "clean_correct": right.clean[0],
        "adversarial_predictions": predictions[0],
        "adversarial_correct": right.adversarial[0],
        **right.draws(),
        **right.rejections(clean.get("scores"), scores),
        **right.target_reached(attacked["targets"], predictions),
        **defended.label_votes(clean["labels"]),
        **{
            _ATTACK_FIELDS[name]: values
            for name, values in attacked.items()
            if values and (name not in _RARE or any(values))
        },
        **{name: totals[name] or None for name in TOTALS},
        **_best_sizes(best_sizes, attacked["forwards"]),
        "gradient_error": gradient_error,
        "probes": clean.get("probes"),
    }
    if shown_rows:
        workspace.store.write_record("examples", task.key_inputs, shown_rows)
    workspace.store.write_record("cells", task.key_inputs, cell)


def _check_targets(attack: str, targets: Sequence[int]) -> None:
    if targets and max(targets) < 0:
        raise ContractError(
            f"attack {attack!r} attacks no sample, since all have the target class as their label; use another goal"
        )


class _DefendedModel:
    """A model behind a defense."""

    def __init__(
        self,
        workspace: Workspace,
        dataset: str,
        model: str,
        defense: str,
        *,
        seed: int,
        fitted: Sequence[Artefact | None],
        progress: Callable[[int], None],
        shown: ShownSamples | None = None,
    ) -> None:
        self.workspace = workspace
        self.specs, self.model = (model, dataset), workspace.model(model)
        self.network = workspace.network(model)
        self.chain = workspace.chain(defense)
        self.seed = seed
        self.fitted = fitted
        self.progress = progress
        self.shown = shown
        self.done = 0
        self._votes: list[torch.Tensor] = []
        self._scores: dict[str, list[float]] = {}

    def predict(self, images: torch.Tensor, ids: Sequence[int], predictions: Sequence[list[int]]) -> None:
        """Appends the predicted classes of these images to each draw's predictions, batch by batch."""
        size = self.workspace.batch_size
        for start in range(0, len(ids), size):
            part = slice(start, start + size)
            for draw, classes in enumerate(predictions):
                purpose = _FIRST if draw == 0 else f"{_FIRST}/{draw}"
                classes.extend(self._predict_batch(images[part], ids[part], purpose))
            self.done += len(ids[part])
            self.progress(self.done)

    @torch.no_grad()
    def _predict_batch(self, images: torch.Tensor, ids: Sequence[int], purpose: str) -> list[int]:
        name = full_spec(self.chain)
        images = images.to(self.workspace.device)
        rng = SampleRandom(self.seed, purpose, ids, self.workspace.device)
        if self.chain.classifying is not None:
            return self._ask_defense(images, ids, rng, purpose)
        given = images.clone()
        with blamed(f"defense {name!r}"):
            returned = self.chain.apply(given, rng)
        check_unchanged(f"defense {name!r}", "images", images, given)
        channels, height, width = images.shape[1:]
        defended = check_defended(name, images, returned, self.chain.output_shape((channels, height, width)))
        check_range(name, defended, stochastic=self.chain.stochastic)
        with blamed(f"model {self.model.name!r}"):
            output = ask_network(self.network, defended, rng)
        return self._classes(output, purpose, ids, images, defended)

    def scores(self, count: int) -> list[list[float]] | None:
        """The scores of so many images for each draw, or None if the defense rejects nothing.

        Raises:
            ContractError: It returned scores for some images only.
        """
        if any(len(scores) != count for scores in self._scores.values()):
            raise ContractError(
                f"defense {full_spec(self.chain)!r} returned a score for some batches and none for others"
            )
        return list(self._scores.values()) or None

    def label_votes(self, labels: Sequence[int]) -> dict[str, Any]:
        """Of how many votes the predictions are, and how many of these the labels got in the first draw, if any."""
        if self.chain.votes is None:
            return {}
        counts = torch.cat(self._votes).gather(1, torch.tensor(labels)[:, None])[:, 0]
        return {"votes": self.chain.votes, "label_votes": counts.tolist()}

    def _ask_defense(self, images: torch.Tensor, ids: Sequence[int], rng: SampleRandom, purpose: str) -> list[int]:
        """The predictions of a chain with a part that classifies; its scores are kept, and votes of the first draw."""
        passed = ChainPass(self.chain, self.network, self.workspace.batch_size, self.fitted)
        with blamed(f"model {self.model.name!r}"):  # the parts of the chain blame themselves
            answer = passed.answer(images, rng)
        if purpose == _FIRST and self.chain.votes is not None:
            self._votes.append(count_votes(answer.logits, self.chain.votes).cpu())
        if answer.score is not None:
            self._scores.setdefault(purpose, []).extend(answer.score.tolist())
        return self._classes(answer.logits, purpose, ids, images, images)

    def _classes(
        self, output: torch.Tensor, purpose: str, ids: Sequence[int], images: torch.Tensor, defended: torch.Tensor
    ) -> list[int]:
        logits = self.workspace.check_output(*self.specs, output, len(ids), labels_only=True)
        if purpose == _FIRST and self.shown is not None:
            self.shown.keep(ids, images, defended, logits)
        classes: list[int] = logits.argmax(dim=1).tolist()
        return classes


def _best_sizes(best: Sequence[Sequence[float]], forwards: Sequence[int]) -> dict[str, list[list[float]]]:
    """For each checkpoint up to the largest number of forwards, each sample's best size; nothing if there are none."""
    if not best or min(forwards) < 0:
        return {}
    reached = 1 + sum(checkpoint < max(forwards) for checkpoint in CHECKPOINTS)
    return {"best_sizes": [list(column) for column in zip(*best, strict=True)][:reached]}


def _other_draws(predictions: Sequence[list[int]]) -> dict[str, list[list[int]]]:
    """The predictions of the draws after the first, if there are any."""
    return {"other_draws": list(predictions[1:])} if len(predictions) > 1 else {}


class _Right:
    """Which samples count as right, clean and attacked, in each draw of the defense.

    Args:
        clean: The predictions on clean images, as they are stored.
        predictions: The predictions on adversarial images, for each draw.
        scores: The scores of adversarial images for each draw; None if the defense rejects nothing.
        attacked: Whether an attacker made the images.
    """

    def __init__(
        self,
        clean: Mapping[str, Any],
        predictions: Sequence[Sequence[int]],
        scores: Sequence[Sequence[float]] | None,
        *,
        attacked: bool,
    ) -> None:
        labels, draws = clean["labels"], len(predictions)
        clean_predictions = (clean["predictions"], *clean.get("other_draws", ()))
        self._clean_rejected = _rejected(clean.get("scores"), draws)
        self._rejected = _rejected(scores, draws)
        self.clean = [
            right_bits(_bits(draw, labels), rejected, attacked=False)
            for draw, rejected in zip(clean_predictions, self._clean_rejected, strict=True)
        ]
        self.adversarial = [
            right_bits(_bits(draw, labels), rejected, attacked=attacked)
            for draw, rejected in zip(predictions, self._rejected, strict=True)
        ]

    def draws(self) -> dict[str, list[list[int]]]:
        """For each of several draws, which samples are correct clean, and both clean and attacked."""
        if len(self.clean) == 1:
            return {}
        both = zip(self.clean, self.adversarial, strict=True)
        return {
            "clean_correct_draws": self.clean,
            "robust_draws": [[a & b for a, b in zip(before, after, strict=True)] for before, after in both],
        }

    def rejections(self, clean: Any, scores: Any) -> dict[str, Any]:
        """For each draw, the scores and which images are rejected; nothing if the defense rejects nothing."""
        if scores is None:
            return {}
        return {
            "clean_scores": clean,
            "clean_rejected": self._clean_rejected,
            "adversarial_scores": scores,
            "adversarial_rejected": self._rejected,
        }

    def target_reached(
        self, targets: Sequence[int], predictions: Sequence[Sequence[int]]
    ) -> dict[str, list[list[int]]]:
        """For each draw, which attacked samples are accepted as their target class; nothing without targets."""
        if not targets:
            return {}
        draws = zip(predictions, self._rejected, strict=True)
        return {
            "target_reached": [right_bits(_bits(draw, targets), rejected, attacked=False) for draw, rejected in draws]
        }


def _rejected(scores: Sequence[Sequence[float]] | None, draws: int) -> list[list[int] | None]:
    return [None] * draws if scores is None else [rejected_bits(draw) for draw in scores]


def _bits(predictions: Sequence[int], labels: Sequence[int]) -> list[int]:
    """1 if the prediction is the label, else 0."""
    return [int(prediction == label) for prediction, label in zip(predictions, labels, strict=True)]
