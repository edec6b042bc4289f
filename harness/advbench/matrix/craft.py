"""Crafting: one chunk of adversarial images, checked, measured and stored."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from advbench.api import Budget, SampleRandom
from advbench.matrix.adaptive import DefendedClassifier
from advbench.matrix.contracts import NOTES, check_adversarial, check_logits, check_note, check_unchanged, distances
from advbench.matrix.environment import Workspace
from advbench.matrix.tasks import CraftTask
from advbench.matrix.watch import Notes, Watched, vanishing

__all__ = ["craft"]


def craft(place: Workspace, task: CraftTask, progress: Callable[[int], None]) -> None:
    """Attacks the samples of one chunk and stores what comes out.

    Stored tensors: ``images`` (float32), ``labels``; of the attacked classifier ``clean_predictions``,
    ``predictions`` and ``rounded_predictions`` (of the images rounded to 8 bits); ``seen`` (whether a point within the
    budget fooled it on the way) and ``vanished`` (whether its gradient at the clean image is zero), both bool;
    ``linf`` and ``l2`` (float64) from the clean image; and what the attack itself tells of each sample.

    Raises:
        ContractError: The attack or the model broke its contract.
    """
    data = place.images(task.dataset)
    model = place.model(task.model)
    attack = place.attack(task.attack)
    network = place.network(task.model)
    budget = attack.budget()
    parts: dict[str, list[torch.Tensor]] = {}
    seconds, asked, raised = 0.0, 0, ""
    for start in range(0, len(task.ids), place.environment.batch_size):
        ids = task.ids[start : start + place.environment.batch_size]
        clean, labels = (tensor.to(place.device) for tensor in data.take(ids))
        target = network
        if task.defense:
            streams = SampleRandom(task.seed, "attacked defense", ids, place.device)
            target = DefendedClassifier(network, place.chain(task.defense), streams, task.draws)
        notes = Notes(clean, labels, budget)
        given, given_labels = clean.clone(), labels.clone()
        began = time.perf_counter()
        rng = SampleRandom(task.seed, "attack", ids, place.device)
        returned, told = attack.run_with_notes(Watched(target, notes), given, given_labels, rng)
        seconds += time.perf_counter() - began
        check_unchanged(f"attack {attack.name!r}", "images", clean, given)
        check_unchanged(f"attack {attack.name!r}", "labels", labels, given_labels)
        images = check_adversarial(attack, clean, returned)
        rounded = (images * 255).round() / 255
        with torch.no_grad():
            answers = [target(x) for x in (clean, images, rounded)]
        logits = [check_logits(model.name, answer, len(ids), model.num_classes) for answer in answers]
        vanished, fault = vanishing(target, clean, labels)
        asked, raised = asked + notes.images_asked, raised or fault
        for name, tensor in (
            ("images", images),
            ("labels", labels),
            ("clean_predictions", logits[0].argmax(dim=1)),
            ("predictions", logits[1].argmax(dim=1)),
            ("rounded_predictions", logits[2].argmax(dim=1)),
            ("seen", notes.seen),
            ("vanished", vanished),
            *((name, check_note(attack, name, told[name], labels)) for name in NOTES if name in told),
            ("linf", distances(clean, images, Budget("linf", 0))),
            ("l2", distances(clean, images, Budget("l2", 0))),
        ):
            parts.setdefault(name, []).append(tensor.cpu())
        progress(start + len(ids))
    place.check_network(task.model, f"attack {attack.name!r}")
    tensors = {name: torch.cat(pieces) for name, pieces in parts.items()}
    facts = {"seconds": round(seconds, 6), "attack": task.attack, "images_asked": asked, "gradient_error": raised}
    place.store.write_tensors(task.material, tensors, facts)
