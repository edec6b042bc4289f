"""Crafting: makes one chunk of adversarial images, checks, measures and stores it."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Container, Iterator

import torch

from advbench.api import Attack, Budget, ContractError, Goal, SampleRandom
from advbench.contracts.attacks import NOTES, check_adversarial, check_crafted, check_note
from advbench.contracts.images import check_unchanged, distances
from advbench.errors import blamed
from advbench.evaluation.plan.tasks import CraftTask, JoinTask
from advbench.evaluation.work.attacked.batch import AttackedBatch
from advbench.evaluation.work.attacked.query_log import QueryLog, RecordingClassifier
from advbench.evaluation.work.workspace import Workspace
from advbench.process.memory import is_out_of_memory
from advbench.store import digest_of

__all__ = ["craft", "join"]


def craft(workspace: Workspace, task: CraftTask, progress: Callable[[int], None]) -> None:
    """Attacks the samples of one chunk, or of a part of it, and stores the adversarial images.

    Stored tensors, for each sample:

    - ``images`` (float32) and ``labels``; if the attack is targeted, ``targets``, -1 for samples that are not attacked;
    - predictions of the attacked classifier: ``clean_predictions``, ``predictions`` and ``rounded_predictions`` (for
      the images rounded to 8 bits);
    - ``seen`` (bool): whether the attack queried a point within the budget that reached the goal; left out if the
      classifier was attacked in another precision;
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
        log = QueryLog(clean, batch.goal, budget)
        began = time.perf_counter()
        attacked = _attack(attack, batch, log)
        seconds += time.perf_counter() - began
        images = attacked["images"]
        results, batch_error = batch.judge(images)
        queried_images, gradient_error = queried_images + log.queried_images, gradient_error or batch_error
        for name, tensor in (
            *attacked.items(),
            ("labels", labels),
            *((("targets", batch.goal.targets),) if batch.goal.targets is not None else ()),
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
    rows = batch.attacked_rows
    if not len(rows):
        return _not_attacked(batch, ("component",) if attack.component_names() else ())
    best = _run_attack(attack, batch, log, 0, rows)
    if len(rows) < len(batch.ids):
        attacked, best = best, _not_attacked(batch, best)
        for name, tensor in attacked.items():
            best[name][rows] = tensor
    if batch.approximations == 1:
        return best
    best = {name: tensor.clone() for name, tensor in best.items()}
    ranks = best["images"].new_full((len(batch.ids), 2), math.inf, dtype=torch.float64)
    ranks[rows] = batch.ranks(attack, best["images"][rows], rows)
    log.queried_images += len(rows)
    for number in range(1, batch.approximations):
        if attack.budget() is not None and attack.group_size is None:
            rows = (ranks[:, 0] < 1).nonzero().flatten()  # samples that are not attacked have infinite ranks
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


def _not_attacked(batch: AttackedBatch, notes: Container[str]) -> dict[str, torch.Tensor]:
    """What :func:`_attack` returns for samples that are not attacked: clean images, and notes that say so."""
    component = batch.labels.new_full((len(batch.ids),), -1, dtype=torch.int8)
    return {"images": batch.clean.clone(), **({"component": component} if "component" in notes else {})}


def _run_attack(
    attack: Attack, batch: AttackedBatch, log: QueryLog, number: int, rows: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Attacks some samples of a batch with one approximation of the defense; returns what :func:`_attack` does."""
    clean, goal, label = batch.clean[rows], batch.goal[rows], f"attack {attack.name!r}"
    given = clean.clone()
    given_goal = Goal(goal.labels.clone(), None if goal.targets is None else goal.targets.clone())
    purpose = f"attack/{number}" if number else "attack"
    rng = SampleRandom(batch.task.seed, purpose, [batch.ids[row] for row in rows.tolist()], clean.device)
    target = batch.attacked(number)
    recorder = RecordingClassifier(target, log, f"model {batch.model.name!r}")
    with _gradient_errors_explained(attack, batch, target):
        model = recorder if len(rows) == len(batch.ids) else recorder.for_rows(rows)
        returned, notes = check_crafted(attack, attack.craft(model, given, given_goal, rng, batch.fitted(number)))
    check_unchanged(label, "images", clean, given)
    check_unchanged(label, "labels", goal.labels, given_goal.labels)
    if goal.targets is not None and given_goal.targets is not None:
        check_unchanged(label, "target classes", goal.targets, given_goal.targets)
    images = check_adversarial(attack, clean, returned)
    return {
        "images": images,
        **{name: check_note(attack, name, notes[name], goal.labels) for name in NOTES if name in notes},
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
