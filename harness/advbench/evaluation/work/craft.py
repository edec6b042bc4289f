"""Crafting: makes one chunk of adversarial images, checks, measures and stores it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

from advbench.api import Attack, Budget, ClassifierWrapper, ContractError, SampleRandom, for_rows, is_stochastic
from advbench.contracts.attacks import NOTES, check_adversarial, check_note
from advbench.contracts.images import check_unchanged, distances
from advbench.errors import blamed
from advbench.evaluation.plan.tasks import CraftTask, JoinTask
from advbench.evaluation.work.adaptive import DefendedClassifier
from advbench.evaluation.work.gradients_at_bounds import InsetGradients, find_inset, sample_points
from advbench.evaluation.work.query_log import CleanBaseline, Gradients, QueryLog, RecordingClassifier, clean_gradients
from advbench.evaluation.work.workspace import Workspace
from advbench.process.memory import is_out_of_memory
from advbench.store import digest_of

__all__ = ["AttackedBatch", "craft", "join"]


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
        given, given_labels = clean.clone(), labels.clone()
        began = time.perf_counter()
        rng = SampleRandom(task.seed, "attack", batch.ids, workspace.device)
        with _gradient_errors_explained(attack, batch):
            returned, notes = attack.run_with_notes(
                RecordingClassifier(batch.target, log, f"model {batch.model.name!r}"), given, given_labels, rng
            )
        seconds += time.perf_counter() - began
        check_unchanged(f"attack {attack.name!r}", "images", clean, given)
        check_unchanged(f"attack {attack.name!r}", "labels", labels, given_labels)
        images = check_adversarial(attack, clean, returned)
        results, batch_error = batch.judge(images)
        queried_images, gradient_error = queried_images + log.queried_images, gradient_error or batch_error
        for name, tensor in (
            ("images", images),
            ("labels", labels),
            *results.items(),
            *((("seen", log.seen),) if batch.exact else ()),
            ("loss_without_slope", log.loss_without_slope),
            *((name, check_note(attack, name, notes[name], labels)) for name in NOTES if name in notes),
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


@contextlib.contextmanager
def _gradient_errors_explained(attack: Attack, batch: AttackedBatch) -> Iterator[None]:
    """Blames the classifier for an error of the attack if the classifier has no gradient.

    Raises:
        ContractError: It has none.
    """
    try:
        with blamed(f"attack {attack.name!r}"):
            yield
    except RuntimeError as error:
        if attack.access == "gradients" and not is_out_of_memory(error) and (gradient_error := batch.gradient_error()):
            raise ContractError(
                f"{batch.label} has no gradient at its images, which attack {attack.name!r} needs: "
                f"{gradient_error.rstrip('.')}; compute logits and approximations with torch, without detach(), "
                "or use attacks that only need labels, such as noise or foolbox:attack=HopSkipJumpAttack"
            ) from error
        raise


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
        target: The classifier as the attack sees it.
        exact: Whether the images are judged by that classifier, and not by one in float32.
    """

    def __init__(self, workspace: Workspace, task: CraftTask, start: int) -> None:
        self.workspace, self.task, self.start = workspace, task, start
        self.ids = task.ids[start : min(start + (task.group_size or workspace.batch_size), task.positions.stop)]
        images, labels = workspace.images(task.dataset).take(self.ids)
        self.clean, self.labels = images.to(workspace.device), labels.to(workspace.device)
        self.model = workspace.model(task.model)
        self._labels_only = workspace.attack(task.attack).access in ("labels", "nothing")
        network = workspace.network(task.model)
        attacked = workspace.attacked_network(task.model, task.precision)
        self.exact = attacked is network
        self.target = self._with_inside_slopes(self._defended(attacked, "attacked defense"), network)
        judge = self.target if self.exact else self._defended(network, "attacked defense in float32")
        self._judge = judge.target if isinstance(judge, InsetGradients) else judge
        if len(self.ids) > workspace.batch_size:  # a group is not split, even if memory is short
            self.target = SplitCalls(self.target, workspace.batch_size)
            self._judge = SplitCalls(self._judge, workspace.batch_size)
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

    @property
    def label(self) -> str:
        """What messages call the classifier."""
        behind = f" behind defense {self.task.defense!r}" if self.task.defense else ""
        return f"model {self.model.name!r}{behind}"

    def gradient_error(self) -> str:
        """The error of computing the attacked classifier's gradient, or ""."""
        return clean_gradients(self.target, self.clean, self.labels).error

    def _defended(self, network: torch.nn.Module, purpose: str) -> torch.nn.Module:
        """The network behind the defense, if the attack sees one."""
        task, workspace = self.task, self.workspace
        if not task.defense:
            return network
        streams = SampleRandom(task.seed, purpose, self.ids, workspace.device)
        return DefendedClassifier(network, workspace.chain(task.defense), streams, task.draws)

    def _shared_baseline(self) -> CleanBaseline:
        """The classifier's predictions and gradients on the clean images: computed once for all attacks."""
        task, baselines = self.task, self.workspace.clean_baselines
        key = (task.dataset, task.model, task.defense, task.seed, task.key_inputs["ids"], self.start, len(self.ids))
        if key not in baselines:
            baselines[key] = CleanBaseline(self._predict(self.clean), self._gradients())
        return baselines[key]

    def _gradients(self) -> Gradients:
        """The classifier's gradients: as the attack sees them, unless another classifier judges the images."""
        return clean_gradients(self.target if self.exact else self._judge, self.clean, self.labels)

    def _with_inside_slopes(self, target: torch.nn.Module, network: torch.nn.Module) -> torch.nn.Module:
        """The classifier with gradients from inside [0, 1], if it has none at the bounds; the same in every batch."""
        task, workspace = self.task, self.workspace
        key = (task.dataset, task.model, task.defense, task.seed)
        if key not in workspace.insets:
            data = workspace.images(task.dataset)
            points = sample_points(data.take(data.ids[:4].tolist())[0]).to(workspace.device)
            streams = SampleRandom(task.seed, "slopes at the bounds", range(len(points)), workspace.device)
            classifier: torch.nn.Module = network
            if task.defense:
                classifier = DefendedClassifier(network, workspace.chain(task.defense), streams, 1)
            workspace.insets[key] = find_inset(classifier, points, max(1, workspace.batch_size))
        inset = workspace.insets[key]
        return target if inset is None else InsetGradients(target, inset)

    @torch.no_grad()
    def _predict(self, images: torch.Tensor) -> torch.Tensor:
        """The predictions, int64, shape (batch,)."""
        with blamed(f"model {self.model.name!r}"):
            output = self._judge(images)
        specs = (self.task.model, self.task.dataset)
        logits = self.workspace.check_output(*specs, output, len(images), labels_only=self._labels_only)
        return logits.argmax(dim=1)


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
