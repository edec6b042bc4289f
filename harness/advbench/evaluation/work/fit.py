"""Fitting: runs an attack or a part of a defense on the images for fits, and stores what it has learned."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from advbench.api import Attack, ContractError, Defense, FitData, SampleRandom, for_rows
from advbench.contracts.artefacts import check_artefact
from advbench.contracts.attacks import check_crafted
from advbench.contracts.images import check_form, check_unchanged
from advbench.errors import blamed
from advbench.evaluation.plan.keys import fitted_keys
from advbench.evaluation.plan.samples import unfitted_part
from advbench.evaluation.plan.tasks import DefenseFitTask, FitTask
from advbench.evaluation.work.artefacts import chain_artefacts
from advbench.evaluation.work.attacked.access import RestrictedClassifier
from advbench.evaluation.work.attacked.batch import AttackedBatch
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.evaluation.work.craft import gradient_errors_explained
from advbench.evaluation.work.workspace import Workspace
from advbench.specs import Chain, full_spec, short_spec, transforms_images

__all__ = ["fit", "fit_defense"]


def fit(workspace: Workspace, task: FitTask, progress: Callable[[int], None]) -> None:
    """Fits an attack and stores its artefact.

    If the defense has several approximations, the attack is fitted with each of them. The artefact that reaches the
    goal on the largest share of the images for fits is kept.

    Args:
        workspace: Where everything is loaded.
        task: The task.
        progress: Called with the share of the work that is done, as a number of samples.

    Raises:
        ContractError: The attack or the model broke its contract, or no sample can be attacked.
    """
    attack = workspace.attack(task.attack)
    began = time.perf_counter()
    batch = AttackedBatch(workspace, task, 0, baseline=False)
    if not len(batch.attacked_rows):
        raise ContractError(
            f"attack {attack.name!r} has no image to be fitted to, since all have the target class as their label; use "
            "another goal, or fit it to other images"
        )
    counter = _Progress(
        task.samples, batch.approximations * (attack.fit_passes(len(batch.attacked_rows)) or 0), progress
    )
    artefacts = [_fit(attack, batch, number, counter) for number in range(batch.approximations)]
    best = 0
    if len(artefacts) > 1:
        best = max(range(len(artefacts)), key=lambda number: _quality(attack, batch, number, artefacts[number]))
    workspace.check_network(task.model, f"attack {attack.name!r}")
    workspace.check_process(f"attack {attack.name!r}")
    tensors = {name: value for name, value in artefacts[best].items() if isinstance(value, torch.Tensor)}
    values = {name: value for name, value in artefacts[best].items() if name not in tensors}
    seconds = round(time.perf_counter() - began, 6)
    dataset = workspace.dataset(task.dataset)
    facts = {
        "attack": attack.innermost.name,
        "spec": task.attack,
        "model": task.model,
        "weights": task.key_inputs["model"]["weights"],
        "image_shape": list(dataset.image_shape),
        "num_classes": dataset.num_classes,
        "defense": task.defense,
        "seconds": seconds,
    }
    workspace.store.write_artefact(task.key_inputs, tensors, {**facts, "values": values})


def _fit(
    attack: Attack, batch: AttackedBatch, number: int, counter: _Progress
) -> dict[str, torch.Tensor | float | str]:
    rows, label = batch.attacked_rows, f"attack {attack.name!r}"
    goal, clean, task = batch.goal[rows], batch.clean[rows], batch.task
    ids = [batch.ids[row] for row in rows.tolist()]
    places = torch.tensor(ids, dtype=torch.int64, device=clean.device)
    data = FitData(lambda chosen: clean[chosen].clone(), goal.labels.clone(), places)
    purpose = f"fit/{batch.numbers[number]}" if batch.numbers[number] else "fit"
    rng = SampleRandom(task.seed, purpose, ids, clean.device)
    given = batch.goal[rows]
    target = for_rows(batch.attacked(number), rows) if len(rows) < len(batch.ids) else batch.attacked(number)
    classifier = _CountingClassifier(target, f"model {batch.model.name!r}", attack, counter)
    with gradient_errors_explained(attack, batch, target):
        returned = attack.fit(classifier, data, given, rng)
    check_unchanged(label, "labels", goal.labels, given.labels)
    return check_artefact(label, returned)


def _quality(
    attack: Attack, batch: AttackedBatch, number: int, artefact: dict[str, torch.Tensor | float | str]
) -> tuple[float, float]:
    """How good an artefact is on the images for fits: the mean of :meth:`AttackedBatch.ranks`; larger is better."""
    label, device, total = f"attack {attack.name!r}", batch.clean.device, [0.0, 0.0]
    for rows in torch.split(batch.attacked_rows, attack.group_size or batch.workspace.batch_size):
        rng = SampleRandom(batch.task.seed, "fit/choice", [batch.ids[row] for row in rows.tolist()], device)
        target = for_rows(batch.attacked(number), rows)
        model = RestrictedClassifier(target, f"model {batch.model.name!r}", attack=label, access=attack.access)
        fitted = {
            name: value.to(device, copy=True) if isinstance(value, torch.Tensor) else value
            for name, value in artefact.items()
        }
        with gradient_errors_explained(attack, batch, target):
            returned = attack.craft(model, batch.clean[rows], batch.goal[rows], rng, fitted)
        images = check_form(label, batch.clean[rows], check_crafted(attack, returned).images)
        for index, sums in enumerate(batch.ranks(attack, images, rows).sum(dim=0).tolist()):
            total[index] += sums
    return total[0], total[1]


class _Progress:
    """Counts the images that the classifier gets.

    Args:
        samples: The number of samples that counts as done at the end.
        passes: How many images it will get in all; 0 if unknown.
        report: Called with the number of samples that are done.
    """

    def __init__(self, samples: int, passes: int, report: Callable[[int], None]) -> None:
        self.samples, self.passes, self.report = samples, passes, report
        self.done = 0

    def add(self, images: int) -> None:
        self.done += images
        if self.passes:
            self.report(min(self.samples, self.samples * self.done // self.passes))


class _CountingClassifier(RestrictedClassifier):
    """The classifier as the attack gets it, which reports the progress of the fit."""

    def __init__(self, target: torch.nn.Module, label: str, attack: Attack, counter: _Progress) -> None:
        super().__init__(target, label, attack=f"attack {attack.name!r}", access=attack.access)
        self.counter = counter

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The classifier's logits, restricted to the access."""
        logits = super().forward(images)
        self.counter.add(len(images))
        return logits


def fit_defense(workspace: Workspace, task: DefenseFitTask, progress: Callable[[int], None]) -> None:
    """Fits a part of a defense, and stores its artefact.

    Raises:
        ContractError: The defense or the model broke its contract.
    """
    chain = workspace.chain(task.defense)
    part, label = chain.parts[task.part], f"defense {chain.parts[task.part].name!r}"
    began = time.perf_counter()
    fitted = chain_artefacts(workspace, task.defense, fitted_keys(task.key_inputs))
    passed = ChainPass(chain, workspace.network(task.model), workspace.batch_size, fitted)
    rng = SampleRandom(task.seed, "defense fit", task.ids, workspace.device)
    data = _data_before(workspace, task, passed, rng, progress)
    with blamed(label):
        returned = part.fit(passed.inside(task.part, rng), data, chain.streams(task.part, rng))
    artefact = check_artefact(label, returned)
    workspace.check_network(task.model, label)
    workspace.check_process(label)
    tensors = {name: value for name, value in artefact.items() if isinstance(value, torch.Tensor)}
    values = {name: value for name, value in artefact.items() if name not in tensors}
    facts = _defense_facts(workspace, task, part)
    seconds = round(time.perf_counter() - began, 6)
    workspace.store.write_artefact(task.key_inputs, tensors, {**facts, "values": values, "seconds": seconds})


def _data_before(
    workspace: Workspace, task: DefenseFitTask, passed: ChainPass, rng: SampleRandom, progress: Callable[[int], None]
) -> FitData:
    """The images for fits, as the parts before this one transform them."""
    images = workspace.images(task.dataset)
    labels = images.take(task.ids)[1].to(workspace.device)
    before = [index for index in range(task.part) if transforms_images(passed.chain.parts[index])]

    @torch.no_grad()
    def read(places: torch.Tensor) -> torch.Tensor:
        chosen = [int(place) for place in places]
        if any(not 0 <= place < len(task.ids) for place in chosen):
            raise ContractError(f"data.images() got a place that is not from 0 to {len(task.ids) - 1}")
        batch = images.take([task.ids[place] for place in chosen])[0].to(workspace.device)
        for index in before:
            batch = passed.transform(index, batch, rng[chosen])
        if chosen:
            progress(max(chosen) + 1)
        return batch

    return FitData(read, labels, torch.tensor(task.ids, dtype=torch.int64, device=workspace.device))


def _defense_facts(workspace: Workspace, task: DefenseFitTask, part: Defense) -> dict[str, object]:
    dataset = workspace.dataset(task.dataset)
    chain = Chain(tuple(map(unfitted_part, workspace.chain(task.defense).parts)))
    return {
        "defense": part.name,
        "spec": full_spec(unfitted_part(part)),
        "chain": full_spec(chain),
        "short": short_spec(chain),
        "part": task.part,
        "model": task.model,
        "weights": task.key_inputs["model"]["weights"],
        "image_shape": list(dataset.image_shape),
        "num_classes": dataset.num_classes,
    }
