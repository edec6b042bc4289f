"""Crafting: makes one chunk of adversarial images, checks, measures and stores it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator

import torch

from advbench.api import Attack, Budget, ClassifierWrapper, ContractError, SampleRandom, for_rows, is_stochastic
from advbench.contracts.attacks import NOTES, check_adversarial, check_note
from advbench.contracts.images import check_unchanged, distances
from advbench.errors import blamed
from advbench.evaluation.plan.tasks import CraftTask, JoinTask
from advbench.evaluation.work.adaptive import DefendedClassifier, count_approximations
from advbench.evaluation.work.gradients_at_bounds import InsetGradients, find_inset, sample_points
from advbench.evaluation.work.query_log import CleanBaseline, Gradients, QueryLog, RecordingClassifier, clean_gradients
from advbench.evaluation.work.workspace import Workspace
from advbench.process.memory import is_out_of_memory
from advbench.store import digest_of

__all__ = ["AttackedBatch", "count_runs", "craft", "join"]

CHOICE_DRAWS = 10
"""The least number of draws of a stochastic defense on which the best of several results is chosen."""


def craft(workspace: Workspace, task: CraftTask, progress: Callable[[int], None]) -> None:
    """Attacks the samples of one chunk, or of a part of it, and stores the adversarial images.

    Stored tensors, for each sample:

    - ``images`` (float32) and ``labels``;
    - predictions of the attacked classifier: ``clean_predictions``, ``predictions`` and ``rounded_predictions`` (for
      the images rounded to 8 bits);
    - ``seen`` (bool): whether the attack queried a misclassified point within the budget; left out if the classifier
      was attacked in another precision;
    - ``loss_without_slope`` (bool): whether all losses that the attack followed were flat in the logits;
    - ``vanished``, ``nan_gradient`` and ``flat_at_bounds`` (bool): the gradient at the clean image, see
      :class:`Gradients`;
    - ``linf`` and ``l2`` (float64): distances from the clean image;
    - the notes that the attack itself returns.

    If the defense offers several approximations, the attack runs with each of them, and each sample keeps its best
    result. ``seen`` and ``loss_without_slope`` are then those of all runs together.

    Raises:
        ContractError: The attack or the model broke its contract.
    """
    attack = workspace.attack(task.attack)
    budget = attack.budget()
    parts: dict[str, list[torch.Tensor]] = {}
    seconds, queried_images, gradient_error = 0.0, 0, ""
    positions = task.positions
    for start in positions[:: task.group_size or workspace.batch_size]:
        batch = AttackedBatch(workspace, task, start)
        clean, labels = batch.clean, batch.labels
        log = QueryLog(clean, labels, budget)
        began = time.perf_counter()
        attacked = _attack(attack, batch, log)
        seconds += time.perf_counter() - began
        images = attacked["images"]
        results, batch_error = batch.judge(images)
        queried_images, gradient_error = queried_images + log.queried_images, gradient_error or batch_error
        for name, tensor in (
            *attacked.items(),
            ("labels", labels),
            *results.items(),
            *((("seen", log.seen),) if batch.exact else ()),
            ("loss_without_slope", log.loss_without_slope),
            ("linf", distances(clean, images, Budget("linf", 0))),
            ("l2", distances(clean, images, Budget("l2", 0))),
        ):
            parts.setdefault(name, []).append(tensor.cpu())
        progress(start + len(batch.ids) - positions.start)
    workspace.check_network(task.model, f"attack {attack.name!r}")
    workspace.check_process(f"attack {attack.name!r}")
    tensors = {name: torch.cat(pieces) for name, pieces in parts.items()}
    facts = {
        "seconds": round(seconds, 6),
        "attack": task.attack,
        "images_asked": queried_images,
        "gradient_error": gradient_error,
    }
    workspace.store.write_tensors(task.key_inputs, tensors, facts, task.part)


def join(workspace: Workspace, task: JoinTask) -> None:
    """Joins the parts of a chunk and removes them.

    Raises:
        LookupError: The store lacks a part.
    """
    key = digest_of(task.key_inputs)
    parts = [part for part in (workspace.store.read_tensors(key, part) for part in task.parts) if part is not None]
    if len(parts) < len(task.parts):
        raise LookupError(f"parts of the adversarial images {key} have gone from the store; run the command again")
    tensors = {name: torch.cat([part[name] for part, _ in parts]) for name in parts[0][0]}
    part_facts = [facts for _, facts in parts]
    facts = {
        "seconds": round(sum(part["seconds"] for part in part_facts), 6),
        "attack": part_facts[0]["attack"],
        "images_asked": sum(part["images_asked"] for part in part_facts),
        "gradient_error": next((part["gradient_error"] for part in part_facts if part["gradient_error"]), ""),
    }
    workspace.store.write_tensors(task.key_inputs, tensors, facts)
    workspace.store.remove_parts(key)


def _attack(attack: Attack, batch: AttackedBatch, log: QueryLog) -> dict[str, torch.Tensor]:
    """Attacks a batch once with each approximation of the defense, and keeps each sample's best result.

    A sample that an attack with a budget has broken in all draws skips the remaining runs, unless the attack needs
    complete groups.

    Returns:
        The images and the attack's notes, by the names under which they are stored.
    """
    rows = torch.arange(len(batch.ids), device=batch.labels.device)
    best = _run_attack(attack, batch, log, 0, rows)
    if batch.approximations == 1:
        return best
    best = {name: tensor.clone() for name, tensor in best.items()}
    ranks = batch.ranks(attack, best["images"], rows)
    log.queried_images += len(rows)
    for number in range(1, batch.approximations):
        if attack.budget() is not None and attack.group_size is None:
            rows = (ranks[:, 0] < 1).nonzero().flatten()
        if not len(rows):
            break
        result = _run_attack(attack, batch, log, number, rows)
        result_ranks, best_ranks = batch.ranks(attack, result["images"], rows), ranks[rows]
        log.queried_images += len(rows)
        first, second = (result_ranks > best_ranks).unbind(dim=1)
        better = first | (second & (result_ranks[:, 0] == best_ranks[:, 0]))
        ranks[rows[better]] = result_ranks[better]
        for name, tensor in result.items():
            best[name][rows[better]] = tensor[better]
    return best


def _run_attack(
    attack: Attack, batch: AttackedBatch, log: QueryLog, number: int, rows: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Attacks some samples of a batch with one approximation of the defense; returns what :func:`_attack` does."""
    clean, labels, label = batch.clean[rows], batch.labels[rows], f"attack {attack.name!r}"
    given, given_labels = clean.clone(), labels.clone()
    purpose = f"attack/{number}" if number else "attack"
    rng = SampleRandom(batch.task.seed, purpose, [batch.ids[row] for row in rows.tolist()], clean.device)
    target = batch.attacked(number)
    recorder = RecordingClassifier(target, log, f"model {batch.model.name!r}")
    with _gradient_errors_explained(attack, batch, target):
        returned, notes = attack.run_with_notes(
            recorder if len(rows) == len(batch.ids) else recorder.for_rows(rows), given, given_labels, rng
        )
    check_unchanged(label, "images", clean, given)
    check_unchanged(label, "labels", labels, given_labels)
    images = check_adversarial(attack, clean, returned)
    return {
        "images": images,
        **{name: check_note(attack, name, notes[name], labels) for name in NOTES if name in notes},
    }


@contextlib.contextmanager
def _gradient_errors_explained(attack: Attack, batch: AttackedBatch, target: torch.nn.Module) -> Iterator[None]:
    """Blames the classifier for an error of the attack if the classifier has no gradient.

    Raises:
        ContractError: It has none.
    """
    try:
        with blamed(f"attack {attack.name!r}"):
            yield
    except RuntimeError as error:
        if (
            attack.access == "gradients"
            and not is_out_of_memory(error)
            and (gradient_error := batch.gradient_error(target))
        ):
            raise ContractError(
                f"{batch.label} has no gradient at its images, which attack {attack.name!r} needs: "
                f"{gradient_error.rstrip('.')}; compute logits and approximations with torch, without detach(), "
                "or use attacks that only need labels, such as noise or foolbox:attack=HopSkipJumpAttack"
            ) from error
        raise


def count_runs(workspace: Workspace, task: CraftTask) -> int:
    """How often a task's attack runs: once with each approximation of the defense if it uses gradients, else once."""
    if not task.defense or workspace.attack(task.attack).access != "gradients":
        return 1
    return count_approximations(workspace.chain(task.defense))


class AttackedBatch:
    """Some of a task's samples and the classifier that is attacked on them.

    Args:
        workspace: Where everything is loaded.
        task: The task.
        start: The position of the first sample.

    Attributes:
        ids: The samples.
        clean: Their images.
        labels: Their labels.
        target: The classifier as the attack sees it, with the defense's first approximation.
        approximations: How many approximations of the defense the attack tries.
        exact: Whether the images are judged by that classifier, and not by one in float32.
    """

    def __init__(self, workspace: Workspace, task: CraftTask, start: int) -> None:
        self.workspace, self.task, self.start = workspace, task, start
        self.ids = task.ids[start : min(start + (task.group_size or workspace.batch_size), task.positions.stop)]
        images, labels = workspace.images(task.dataset).take(self.ids)
        self.clean, self.labels = images.to(workspace.device), labels.to(workspace.device)
        self.model = workspace.model(task.model)
        self.approximations = count_runs(workspace, task)
        self._labels_only = workspace.attack(task.attack).access in ("labels", "nothing")
        network = workspace.network(task.model)
        self.exact = workspace.attacked_network(task.model, task.precision) is network
        self.target = self._attacked(0)
        judge = self.target if self.exact else self._defended(network, "attacked defense in float32", task.draws)
        self._judge = self._split(judge.target if isinstance(judge, InsetGradients) else judge)
        self.target = self._split(self.target)
        # A stochastic classifier's outputs depend on earlier queries: it is run after the attack, for each attack.
        self._baseline = None if is_stochastic(self._judge) else self._shared_baseline()

    def judge(self, adversarial: torch.Tensor) -> tuple[dict[str, torch.Tensor], str]:
        """The classifier's predictions and gradients for the clean and the adversarial images.

        Returns:
            The tensors by the names under which they are stored, and the error of computing a gradient, or "".
        """
        baseline = self._baseline
        clean = self._predict(self.clean) if baseline is None else baseline.predictions
        attacked, rounded = self._predict(adversarial), self._predict((adversarial * 255).round() / 255)
        gradients = self._gradients() if baseline is None else baseline.gradients
        tensors = {
            "clean_predictions": clean,
            "predictions": attacked,
            "rounded_predictions": rounded,
            "vanished": gradients.vanished,
            "nan_gradient": gradients.non_finite,
            "flat_at_bounds": gradients.flat_at_bounds,
        }
        return tensors, gradients.error

    def attacked(self, number: int) -> torch.nn.Module:
        """The classifier as the attack sees it, with one of the defense's approximations, from 0."""
        return self._split(self._attacked(number)) if number else self.target

    @torch.no_grad()
    def ranks(self, attack: Attack, adversarial: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """How good an attack's results are: shape (rows, 2), better if the first number is larger, or then the second.

        For an attack with a budget, these are the share of draws in which the image is misclassified, and the negative
        mean margin. If a minimal attack fools the classifier in at least half of the draws, they are 1 and the negative
        distance. The draws are the same at every call; no attack has seen them, and they are not used for scoring.

        Args:
            attack: The attack.
            adversarial: Its images.
            rows: The samples of the batch that they belong to.
        """
        network, labels = self.workspace.network(self.task.model), self.labels[rows]
        judge = for_rows(self._split(self._defended(network, "choice of approximation", 1)), rows)
        draws = max(self.task.draws, CHOICE_DRAWS) if is_stochastic(judge) else 1
        logits = torch.stack([self._logits(judge, adversarial) for _ in range(draws)])
        true = labels.expand(draws, -1)[:, :, None]
        margins = logits.gather(2, true)[:, :, 0] - logits.scatter(2, true, -math.inf).amax(dim=2)
        rates = (logits.argmax(dim=2) != labels).double().mean(dim=0)
        ranks = torch.stack((rates, -margins.double().mean(dim=0)), dim=1)
        if attack.budget() is None:
            norm = Budget(attack.minimized_norm() or "l2", 0)
            minimal = torch.stack((torch.ones_like(rates), -distances(self.clean[rows], adversarial, norm)), dim=1)
            ranks = torch.where((rates >= 0.5)[:, None], minimal, ranks)
        return ranks

    @property
    def label(self) -> str:
        """What messages call the classifier."""
        behind = f" behind defense {self.task.defense!r}" if self.task.defense else ""
        return f"model {self.model.name!r}{behind}"

    def gradient_error(self, target: torch.nn.Module) -> str:
        """The error of computing the gradient of the attacked classifier, or ""."""
        return clean_gradients(target, self.clean, self.labels).error

    def _attacked(self, number: int) -> torch.nn.Module:
        network = self.workspace.attacked_network(self.task.model, self.task.precision)
        purpose = f"attacked defense/{number}" if number else "attacked defense"
        return self._with_inside_slopes(self._defended(network, purpose, self.task.draws, number), number)

    def _split(self, classifier: torch.nn.Module) -> torch.nn.Module:
        """The classifier for a batch that exceeds the batch size: a group is not split, even if memory is short."""
        batch_size = self.workspace.batch_size
        return SplitCalls(classifier, batch_size) if len(self.ids) > batch_size else classifier

    def _defended(self, network: torch.nn.Module, purpose: str, draws: int, number: int = 0) -> torch.nn.Module:
        """The network behind the defense, if the attack sees one."""
        task, workspace = self.task, self.workspace
        if not task.defense:
            return network
        streams = SampleRandom(task.seed, purpose, self.ids, workspace.device)
        return DefendedClassifier(network, workspace.chain(task.defense), streams, draws, number=number)

    def _shared_baseline(self) -> CleanBaseline:
        """The classifier's predictions and gradients on the clean images: computed once for all attacks."""
        task, baselines = self.task, self.workspace.clean_baselines
        key = (task.dataset, task.model, task.defense, task.seed, task.key_inputs["ids"], self.start, len(self.ids))
        if key not in baselines:
            baselines[key] = CleanBaseline(self._predict(self.clean), self._gradients())
        return baselines[key]

    def _gradients(self) -> Gradients:
        """The classifier's gradients: as the attack sees them, unless another classifier judges the images.

        A problem counts if the gradients of all approximations have it.
        """
        gradients = clean_gradients(self.target if self.exact else self._judge, self.clean, self.labels)
        chain = self.workspace.chain(self.task.defense) if self.exact and self.task.defense else None
        for number in range(1, 1 if chain is None else count_approximations(chain)):
            if not torch.stack(gradients[:3]).any():
                break
            other = clean_gradients(self.attacked(number), self.clean, self.labels)
            vanished, non_finite, flat = (a & b for a, b in zip(gradients[:3], other[:3], strict=True))
            gradients = Gradients(vanished, non_finite, flat, gradients.error or other.error)
        return gradients

    def _with_inside_slopes(self, target: torch.nn.Module, number: int) -> torch.nn.Module:
        """The classifier with gradients from inside [0, 1], if it has none at the bounds; the same in every batch."""
        task, workspace = self.task, self.workspace
        key = (task.dataset, task.model, task.defense, task.seed, number)
        if key not in workspace.insets:
            data = workspace.images(task.dataset)
            points = sample_points(data.take(data.ids[:4].tolist())[0]).to(workspace.device)
            streams = SampleRandom(task.seed, "slopes at the bounds", range(len(points)), workspace.device)
            classifier = network = workspace.network(task.model)
            if task.defense:
                classifier = DefendedClassifier(network, workspace.chain(task.defense), streams, 1, number=number)
            workspace.insets[key] = find_inset(classifier, points, max(1, workspace.batch_size))
        inset = workspace.insets[key]
        return target if inset is None else InsetGradients(target, inset)

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> torch.Tensor:
        """The predictions, int64, shape (batch,)."""
        return self._logits(self._judge, images).argmax(dim=1)

    def _logits(self, classifier: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        with blamed(f"model {self.model.name!r}"):
            output = classifier(images)
        specs = (self.task.model, self.task.dataset)
        return self.workspace.check_output(*specs, output, len(images), labels_only=self._labels_only)


class SplitCalls(ClassifierWrapper):
    """A classifier that sends at most some images through its target at a time, for groups that exceed the memory.

    The activations of each part are computed again in the backward pass instead of being kept, unless the target is
    stochastic.

    Args:
        target: The classifier.
        batch_size: How many images it gets at a time.
    """

    def __init__(self, target: torch.nn.Module, batch_size: int) -> None:
        super().__init__(target)
        self.batch_size = batch_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The target's logits."""
        if len(images) <= self.batch_size:
            return self.target(images)  # type: ignore[no-any-return]
        parts = torch.split(torch.arange(len(images), device=images.device), self.batch_size)
        return torch.cat([self._logits(for_rows(self.target, part), images[part]) for part in parts])

    def _logits(self, target: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        if self.stochastic or not torch.is_grad_enabled():
            return target(images)  # type: ignore[no-any-return]
        from torch.utils.checkpoint import checkpoint

        return checkpoint(target, images, use_reentrant=False)  # type: ignore[no-any-return]
