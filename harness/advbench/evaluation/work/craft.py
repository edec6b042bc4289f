"""Crafting: makes one chunk of adversarial images, checks, measures and stores it."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator

import torch

from advbench.api import Attack, Budget, ContractError, Goal, SampleRandom
from advbench.api.devices import widest_float
from advbench.api.rows import QueriesSpent
from advbench.contracts.attacks import check_adversarial, check_crafted, check_notes, check_sizes, notes_unattacked
from advbench.contracts.budgets import is_minimal
from advbench.contracts.images import check_form, check_unchanged, distances, finite_checks_together
from advbench.errors import blamed
from advbench.evaluation.plan.tasks import CraftTask, JoinTask
from advbench.evaluation.work.attacked.batch import AttackedBatch
from advbench.evaluation.work.attacked.query_log import QueryLog, RecordingClassifier
from advbench.evaluation.work.workspace import Workspace
from advbench.process.memory import is_out_of_memory
from advbench.store import digest_of

__all__ = ["TOTALS", "craft", "gradient_errors_explained", "join"]

TOTALS = ("images_asked", "total_forwards", "total_backwards")
"""The stored numbers of queries of all samples together: images without and with draws, and gradients."""


def craft(workspace: Workspace, task: CraftTask, progress: Callable[[int], None]) -> None:
    """Attacks the samples of one chunk, or of a part of it, and stores the adversarial images.

    Stored tensors, for each sample:

    - ``images`` (float32) and ``labels``; if the attack is targeted, ``targets``, -1 for samples that are not attacked;
    - predictions of the attacked classifier: ``clean_predictions``, ``predictions`` and ``rounded_predictions`` (for
      the images rounded to 8 bits);
    - ``forwards`` and ``backwards`` (int64): how many images, times draws of the defense, the attack sent through the
      classifier, and how many gradients it computed; -1 if the attack does not say whose images it asks about;
    - ``first_success`` (int64): the number of forwards until a point in the set reached the goal, else -1; for a
      minimal attack instead ``best_sizes`` (float64, a column for each of
      :data:`~advbench.analysis.queries.CHECKPOINTS`): the smallest distance, in the norm that it minimises, of a point
      that reached the goal within so many forwards, or -1; neither if the set cannot tell for a point without notes;
    - ``seen`` (bool): whether the attack queried a point in its perturbation set that reached the goal; left out if
      the classifier was attacked in another precision, or if the set cannot tell for a point without notes;
    - ``loss_without_slope`` (bool): whether all losses that the attack followed were flat in the logits;
    - ``vanished``, ``nan_gradient`` and ``flat_at_bounds`` (bool): the gradient at the clean image, see
      :class:`Gradients`;
    - ``linf`` and ``l2`` (float64): distances from the clean image;
    - the notes that the attack itself returns;
    - ``size`` and ``size_…`` (float64): the sizes of the perturbation, the main one first, unless that is L∞ or L2.

    If the defense offers several approximations, the attack runs with each of them, and each sample keeps its best
    result. ``seen``, ``loss_without_slope`` and the numbers of queries are then those of all runs together.

    Under a limit of queries, a sample that asks for more gets its nearest success within the limit; else its last point
    in the set, or its clean image if the attack is minimal. The others get what the attack returns.

    Raises:
        ContractError: The attack or the model broke its contract.
        NotLimitable: There is a limit of queries, and it is not known which queries of a sample succeed.
    """
    attack = workspace.attack(task.attack)
    parts: dict[str, list[torch.Tensor]] = {}
    seconds, gradient_error, totals = 0.0, "", Counter[str]()
    positions = task.positions
    for start in positions[:: task.group_size or workspace.batch_size]:
        batch = AttackedBatch(workspace, task, start)
        log = QueryLog(batch.clean, batch.goal, attack.perturbation(), most=task.max_queries)
        began = time.perf_counter()
        attacked = _attack(attack, batch, log)
        seconds += time.perf_counter() - began
        totals += _totals(log)
        results, batch_error = _results(attack, batch, log, attacked)
        gradient_error = gradient_error or batch_error
        for name, tensor in results.items():
            narrow = name != "images" and tensor.is_floating_point()  # as float64 is on devices that have none
            parts.setdefault(name, []).append(tensor.cpu().double() if narrow else tensor.cpu())
        progress(start + len(batch.ids) - positions.start)
    workspace.check_network(task.model, f"attack {attack.name!r}")
    workspace.check_process(f"attack {attack.name!r}")
    tensors = {name: torch.cat(pieces) for name, pieces in parts.items()}
    facts = {
        "seconds": round(seconds, 6),
        "attack": task.attack,
        **{name: totals[name] for name in TOTALS},
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
        **{name: sum(part.get(name, 0) for part in part_facts) for name in TOTALS},
        "gradient_error": next((part["gradient_error"] for part in part_facts if part["gradient_error"]), ""),
    }
    workspace.store.write_tensors(task.key_inputs, tensors, facts)
    workspace.store.remove_parts(key)


def _results(
    attack: Attack, batch: AttackedBatch, log: QueryLog, attacked: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors that are stored for a batch, by name, and the error of computing a gradient, or ""."""
    clean, images, targets = batch.clean, attacked["images"], batch.goal.targets
    judged, error = batch.judge(images)
    results = {
        **attacked,
        "labels": batch.labels,
        **({} if targets is None else {"targets": targets}),
        **judged,
        **_queries(log),
        **({"seen": log.seen} if batch.exact and log.knows_successes else {}),
        "loss_without_slope": log.loss_without_slope,
        "linf": distances(clean, images, Budget("linf", 0)),
        "l2": distances(clean, images, Budget("l2", 0)),
        **dict(_sizes(attack, clean, attacked)),
    }
    return results, error


def _totals(log: QueryLog) -> Counter[str]:
    meter = log.meter
    return Counter(dict(zip(TOTALS, (log.queried_images, meter.total_forwards, meter.total_backwards), strict=True)))


def _queries(log: QueryLog) -> dict[str, torch.Tensor]:
    """The numbers of queries of each sample, by the names under which they are stored."""
    meter, best = log.meter, log.meter.best_sizes
    numbers = {"forwards": meter.forwards, "backwards": meter.backwards}
    if best is not None:
        numbers["best_sizes"] = best.masked_fill(best.isinf(), -1)
    elif log.knows_successes:
        numbers["first_success"] = meter.first_success
    return numbers if meter.known else {name: torch.full_like(tensor, -1) for name, tensor in numbers.items()}


def _attack(attack: Attack, batch: AttackedBatch, log: QueryLog) -> dict[str, torch.Tensor]:
    """Attacks a batch once with each approximation of the defense, and keeps each sample's best result.

    A sample that is broken in all draws skips the remaining runs, unless the attack is minimal or needs complete
    groups.

    Returns:
        The images and the attack's notes, by the names under which they are stored.
    """
    if not len(batch.attacked_rows):
        return _not_attacked(attack, batch, {})
    best = _best_of_runs(attack, batch, log)
    if log.limit is None:
        return best
    spent, fallback = log.limit.spent, _not_attacked(attack, batch, best) | {"images": log.limit.result()}
    return {name: _where(spent, fallback[name], tensor) for name, tensor in best.items()}


def _where(chosen: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """``torch.where`` along the first dimension."""
    return torch.where(chosen.reshape(-1, *[1] * (one.ndim - 1)), one, other)


def _best_of_runs(attack: Attack, batch: AttackedBatch, log: QueryLog) -> dict[str, torch.Tensor]:
    """What :func:`_attack` returns, without a limit of queries."""
    rows = batch.attacked_rows
    best = _run_attack(attack, batch, log, 0, rows)
    if len(rows) < len(batch.ids):
        attacked, best = best, _not_attacked(attack, batch, best)
        for name, tensor in attacked.items():
            best[name][rows] = tensor
    if batch.approximations == 1:
        return best
    best = {name: tensor.clone() for name, tensor in best.items()}
    ranks = best["images"].new_full((len(batch.ids), 2), math.inf, dtype=widest_float(batch.clean.device))
    ranks[rows] = batch.ranks(attack, best["images"][rows], rows)
    log.queried_images += len(rows)
    for number in range(1, batch.approximations):
        if not is_minimal(attack) and attack.group_size is None:
            rows = (ranks[:, 0] < 1).nonzero().flatten()  # samples that are not attacked have infinite ranks
        if log.limit is not None and attack.group_size is None:
            rows = rows[~log.limit.spent[rows]]
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


def _not_attacked(attack: Attack, batch: AttackedBatch, attacked: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What :func:`_attack` returns for samples that are not attacked: clean images, and notes that say so.

    ``attacked`` is the result of the other samples of the batch; empty if there are none.
    """
    notes = {name: tensor for name, tensor in attacked.items() if name != "images"}
    return {"images": batch.clean.clone(), **notes_unattacked(attack, batch.clean, notes)}


def _sizes(
    attack: Attack, clean: torch.Tensor, attacked: dict[str, torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    """The sizes of a batch's perturbations, by the names under which they are stored."""
    notes = {name: tensor for name, tensor in attacked.items() if name != "images"}
    if attack.perturbation().main_size() in ("linf", "l2", None):
        return  # stored for every attack
    for number, (name, size) in enumerate(check_sizes(attack, clean, attacked["images"], notes).items()):
        yield f"size_{name}" if number else "size", size


def _run_attack(
    attack: Attack, batch: AttackedBatch, log: QueryLog, number: int, rows: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Attacks some samples of a batch with one approximation of the defense; returns what :func:`_attack` does."""
    clean, goal, label = batch.clean[rows], batch.goal[rows], f"attack {attack.name!r}"
    given = clean.clone()
    given_goal = Goal(goal.labels.clone(), None if goal.targets is None else goal.targets.clone())
    purpose = f"attack/{batch.numbers[number]}" if batch.numbers[number] else "attack"
    rng = SampleRandom(batch.task.seed, purpose, [batch.ids[row] for row in rows.tolist()], clean.device)
    target = batch.attacked(number)
    recorder = RecordingClassifier(target, log, f"model {batch.model.name!r}", attack=label, access=attack.access)
    if log.limit is not None:
        log.limit.attacked_rows = rows
    try:
        with gradient_errors_explained(attack, batch, target), finite_checks_together():
            model = recorder if len(rows) == len(batch.ids) else recorder.for_rows(rows)
            returned, notes = check_crafted(attack, attack.craft(model, given, given_goal, rng, batch.fitted()))
    except QueriesSpent:
        return {name: tensor[rows] for name, tensor in _not_attacked(attack, batch, {}).items()}
    check_unchanged(label, "images", clean, given)
    check_unchanged(label, "labels", goal.labels, given_goal.labels)
    if goal.targets is not None and given_goal.targets is not None:
        check_unchanged(label, "target classes", goal.targets, given_goal.targets)
    images = check_form(label, clean, returned)
    checked = check_notes(attack, clean, notes)
    images = check_adversarial(attack, clean, images, checked, [batch.ids[row] for row in rows.tolist()])
    return {"images": images, **checked}


@contextlib.contextmanager
def gradient_errors_explained(attack: Attack, batch: AttackedBatch, target: torch.nn.Module) -> Iterator[None]:
    """Blames the classifier for an error of the attack if the classifier has no gradient.

    Raises:
        ContractError: It has none.
    """
    try:
        with blamed(f"attack {attack.name!r}"):
            yield
    except RuntimeError as error:
        if attack.access != "gradients" and "does not require grad" in str(error):
            raise ContractError(
                f"attack {attack.name!r} asked for a gradient, but declares access = {attack.access!r}; declare "
                "'gradients'"
            ) from error
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
