"""Crafting: one chunk of adversarial images, checked, measured and stored."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from advbench.api import Budget, SampleRandom
from advbench.matrix.adaptive import DefendedClassifier
from advbench.matrix.contracts import check_adversarial, check_logits, check_unchanged, distances
from advbench.matrix.environment import Workspace
from advbench.matrix.tasks import CraftTask

__all__ = ["craft"]


def craft(place: Workspace, task: CraftTask, progress: Callable[[int], None]) -> None:
    """Attacks the samples of one chunk and stores what comes out.

    Stored tensors: ``images`` (float32), ``labels``, ``clean_predictions`` and ``predictions`` of the attacked
    classifier, ``linf`` and ``l2`` (float64) from the clean image.

    Raises:
        ContractError: The attack or the model broke its contract.
    """
    data = place.images(task.dataset)
    model = place.model(task.model)
    attack = place.attack(task.attack)
    network = place.network(task.model)
    parts: dict[str, list[torch.Tensor]] = {}
    seconds = 0.0
    for start in range(0, len(task.ids), place.environment.batch_size):
        ids = task.ids[start : start + place.environment.batch_size]
        clean, labels = (tensor.to(place.device) for tensor in data.take(ids))
        target = network
        if task.defense:
            streams = SampleRandom(task.seed, "attacked defense", ids, place.device)
            target = DefendedClassifier(network, place.chain(task.defense), streams, task.draws)
        given, given_labels = clean.clone(), labels.clone()
        began = time.perf_counter()
        returned = attack.run(target, given, given_labels, SampleRandom(task.seed, "attack", ids, place.device))
        seconds += time.perf_counter() - began
        check_unchanged(f"attack {attack.name!r}", "images", clean, given)
        check_unchanged(f"attack {attack.name!r}", "labels", labels, given_labels)
        images = check_adversarial(attack, clean, returned)
        with torch.inference_mode():
            logits = [check_logits(model.name, target(x), len(ids), model.num_classes) for x in (clean, images)]
        for name, tensor in (
            ("images", images),
            ("labels", labels),
            ("clean_predictions", logits[0].argmax(dim=1)),
            ("predictions", logits[1].argmax(dim=1)),
            ("linf", distances(clean, images, Budget("linf", 0))),
            ("l2", distances(clean, images, Budget("l2", 0))),
        ):
            parts.setdefault(name, []).append(tensor.cpu())
        progress(start + len(ids))
    place.check_network(task.model, f"attack {attack.name!r}")
    tensors = {name: torch.cat(pieces) for name, pieces in parts.items()}
    place.store.write_tensors(task.material, tensors, {"seconds": round(seconds, 6), "attack": task.attack})
