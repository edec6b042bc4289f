"""Crafting: one chunk of adversarial images, checked, measured and stored."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import torch

from advbench.api import Attack, Budget, ContractError, SampleRandom, is_stochastic
from advbench.contracts.attacks import NOTES, check_adversarial, check_note
from advbench.contracts.images import check_unchanged, distances
from advbench.errors import blamed
from advbench.evaluation.plan.tasks import CraftTask, JoinTask
from advbench.evaluation.work.adaptive import DefendedClassifier
from advbench.evaluation.work.box_slopes import InsideSlopes, inset_of, test_points
from advbench.evaluation.work.query_log import CleanBaseline, QueryLog, RecordingClassifier, Slopes, clean_slopes
from advbench.evaluation.work.workspace import Workspace
from advbench.process.memory import is_shortage
from advbench.store import digest_of

__all__ = ["craft", "join"]


def craft(place: Workspace, task: CraftTask, progress: Callable[[int], None]) -> None:
    """Attacks the samples of one chunk, or of a part of it, and stores what comes out.

    Stored tensors: ``images`` (float32), ``labels``; of the attacked classifier ``clean_predictions``,
    ``predictions`` and ``rounded_predictions`` (of the images rounded to 8 bits); ``seen`` (whether a point within the
    budget fooled it on the way; not where it was attacked in another precision), ``loss_without_slope`` (whether the
    attack followed losses that were flat in the logits alone), ``vanished``, ``nan_gradient`` and ``flat_at_bounds``
    (what its gradient at the clean image is like: see :class:`Slopes`), all bool; ``linf`` and ``l2`` (float64) from
    the clean image; and what the attack itself tells of each sample.

    Raises:
        ContractError: The attack or the model broke its contract.
    """
    attack = place.attack(task.attack)
    budget = attack.budget()
    parts: dict[str, list[torch.Tensor]] = {}
    seconds, asked, raised = 0.0, 0, ""
    places = task.places
    for start in places[:: place.batch_size]:
        batch = _Batch(place, task, start)
        clean, labels = batch.clean, batch.labels
        notes = QueryLog(clean, labels, budget)
        given, given_labels = clean.clone(), labels.clone()
        began = time.perf_counter()
        rng = SampleRandom(task.seed, "attack", batch.ids, place.device)
        with _explained(attack, batch):
            returned, told = attack.run_with_notes(
                RecordingClassifier(batch.target, notes, f"model {batch.model.name!r}"), given, given_labels, rng
            )
        seconds += time.perf_counter() - began
        check_unchanged(f"attack {attack.name!r}", "images", clean, given)
        check_unchanged(f"attack {attack.name!r}", "labels", labels, given_labels)
        images = check_adversarial(attack, clean, returned)
        answers, fault = batch.ask(images)
        asked, raised = asked + notes.images_asked, raised or fault
        for name, tensor in (
            ("images", images),
            ("labels", labels),
            *answers.items(),
            *((("seen", notes.seen),) if batch.exact else ()),
            ("loss_without_slope", notes.blind),
            *((name, check_note(attack, name, told[name], labels)) for name in NOTES if name in told),
            ("linf", distances(clean, images, Budget("linf", 0))),
            ("l2", distances(clean, images, Budget("l2", 0))),
        ):
            parts.setdefault(name, []).append(tensor.cpu())
        progress(start + len(batch.ids) - places.start)
    place.check_network(task.model, f"attack {attack.name!r}")
    place.check_process(f"attack {attack.name!r}")
    tensors = {name: torch.cat(pieces) for name, pieces in parts.items()}
    facts = {"seconds": round(seconds, 6), "attack": task.attack, "images_asked": asked, "gradient_error": raised}
    place.store.write_tensors(task.key_inputs, tensors, facts, task.part)


def join(place: Workspace, task: JoinTask) -> None:
    """Makes a chunk of its parts, which are removed.

    Raises:
        LookupError: A part is not in the store.
    """
    key = digest_of(task.key_inputs)
    found = [place.store.read_tensors(key, part) for part in task.parts]
    parts = [part for part in found if part is not None]
    if len(parts) < len(found):
        raise LookupError(f"parts of the adversarial images {key} have gone from the store; run the command again")
    tensors = {name: torch.cat([part[name] for part, _ in parts]) for name in parts[0][0]}
    told = [facts for _, facts in parts]
    facts = {
        "seconds": round(sum(one["seconds"] for one in told), 6),
        "attack": told[0]["attack"],
        "images_asked": sum(one["images_asked"] for one in told),
        "gradient_error": next((one["gradient_error"] for one in told if one["gradient_error"]), ""),
    }
    place.store.write_tensors(task.key_inputs, tensors, facts)
    place.store.remove_parts(key)


@contextlib.contextmanager
def _explained(attack: Attack, batch: _Batch) -> Iterator[None]:
    """Says of what an attack raises whose fault it is: the classifier's, where that has no gradient to follow.

    Raises:
        ContractError: It has none.
    """
    try:
        with blamed(f"attack {attack.name!r}"):
            yield
    except RuntimeError as error:
        if attack.access == "gradients" and not is_shortage(error) and (fault := batch.gradient_fault()):
            raise ContractError(
                f"{batch.label} gives no gradient at its images, which attack {attack.name!r} follows: "
                f"{fault.rstrip('.')}; compute logits and approximations with torch throughout, without detach(), "
                "or use attacks that need labels alone, such as noise or foolbox:attack=HopSkipJumpAttack"
            ) from error
        raise


class _Batch:
    """Some of a task's samples and the classifier that is attacked on them.

    Args:
        place: Where everything is loaded.
        task: The task.
        start: Where in the task's samples it begins.

    Attributes:
        ids: The samples.
        clean: Their images.
        labels: Their labels.
        target: The classifier as the attack sees it.
        exact: Whether that is the classifier by which the images are judged, which is always in float32.
    """

    def __init__(self, place: Workspace, task: CraftTask, start: int) -> None:
        self.place, self.task, self.start = place, task, start
        self.ids = task.ids[start : min(start + place.batch_size, task.places.stop)]
        images, labels = place.images(task.dataset).take(self.ids)
        self.clean, self.labels = images.to(place.device), labels.to(place.device)
        self.model = place.model(task.model)
        self._labels_only = place.attack(task.attack).access in ("labels", "nothing")
        network, attacked = place.network(task.model), place.attacked_network(task.model, task.precision)
        self.exact = attacked is network
        self.target = self._sloped(self._defended(attacked, "attacked defense"), network)
        judge = self.target if self.exact else self._defended(network, "attacked defense in float32")
        self._judge = judge.target if isinstance(judge, InsideSlopes) else judge
        # What has a memory of what it was asked is asked after the attack, and for each attack anew.
        self._unattacked = None if is_stochastic(self._judge) else self._recalled()

    def ask(self, adversarial: torch.Tensor) -> tuple[dict[str, torch.Tensor], str]:
        """What the classifier says of the clean and the adversarial images, by the names under which it is stored.

        Returns:
            That, and what asking for a gradient raised, or nothing.
        """
        known = self._unattacked
        clean = self._classes(self.clean) if known is None else known.predictions
        attacked, rounded = self._classes(adversarial), self._classes((adversarial * 255).round() / 255)
        slopes = self._slopes() if known is None else known.slopes
        told = {"clean_predictions": clean, "predictions": attacked, "rounded_predictions": rounded}
        told |= {"vanished": slopes.vanished, "nan_gradient": slopes.no_number, "flat_at_bounds": slopes.flat}
        return told, slopes.fault

    @property
    def label(self) -> str:
        """What messages call the classifier."""
        behind = f" behind defense {self.task.defense!r}" if self.task.defense else ""
        return f"model {self.model.name!r}{behind}"

    def gradient_fault(self) -> str:
        """What asking the attacked classifier for a gradient raises, or nothing."""
        return clean_slopes(self.target, self.clean, self.labels).fault

    def _defended(self, network: torch.nn.Module, purpose: str) -> torch.nn.Module:
        """The network behind the defense that the attack sees, where it sees one."""
        task, place = self.task, self.place
        if not task.defense:
            return network
        streams = SampleRandom(task.seed, purpose, self.ids, place.device)
        return DefendedClassifier(network, place.chain(task.defense), streams, task.draws)

    def _recalled(self) -> CleanBaseline:
        """What the classifier is like on the clean images: the same for every attack, and asked once."""
        task, known = self.task, self.place.unattacked
        key = (task.dataset, task.model, task.defense, task.seed, task.key_inputs["ids"], self.start, len(self.ids))
        if key not in known:
            known[key] = CleanBaseline(self._classes(self.clean), self._slopes())
        return known[key]

    def _slopes(self) -> Slopes:
        """What the attacked classifier's gradients are like, as the attack sees them where it is judged by it."""
        return clean_slopes(self.target if self.exact else self._judge, self.clean, self.labels)

    def _sloped(self, target: torch.nn.Module, network: torch.nn.Module) -> torch.nn.Module:
        """The classifier with the slopes inside [0, 1] where it has none at the bounds; the same in every batch."""
        task, place = self.task, self.place
        key = (task.dataset, task.model, task.defense, task.seed)
        if key not in place.insets:
            data = place.images(task.dataset)
            points = test_points(data.take(data.ids[:4].tolist())[0]).to(place.device)
            streams = SampleRandom(task.seed, "slopes at the bounds", range(len(points)), place.device)
            asked: torch.nn.Module = network
            if task.defense:
                asked = DefendedClassifier(network, place.chain(task.defense), streams, 1)
            place.insets[key] = inset_of(asked, points, max(1, place.batch_size))
        inset = place.insets[key]
        return target if inset is None else InsideSlopes(target, inset)

    @torch.no_grad()
    def _classes(self, images: torch.Tensor) -> torch.Tensor:
        """The predictions, int64, shape (batch,)."""
        with blamed(f"model {self.model.name!r}"):
            answer = self._judge(images)
        specs = (self.task.model, self.task.dataset)
        return self.place.check_answer(*specs, answer, len(images), labels_only=self._labels_only).argmax(dim=1)
