"""A batch of samples under attack: their goal, the classifier that the attack sees, and what it makes of the images."""

from __future__ import annotations

import torch

from advbench.api import (
    Answer,
    Artefact,
    Attack,
    Budget,
    ClassifierWrapper,
    SampleRandom,
    answer,
    for_rows,
    is_stochastic,
)
from advbench.api.devices import widest_float
from advbench.api.goal import goal_of
from advbench.contracts.budgets import is_minimal
from advbench.contracts.goals import choose_targets
from advbench.contracts.images import distances
from advbench.errors import blamed
from advbench.evaluation.plan.keys import fitted_keys
from advbench.evaluation.plan.tasks import CraftTask, FitTask
from advbench.evaluation.plan.threats import approximation_numbers
from advbench.evaluation.work.artefacts import artefact_of, chain_artefacts
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier, count_approximations
from advbench.evaluation.work.attacked.gradients_at_bounds import InsetGradients, find_inset, sample_points
from advbench.evaluation.work.attacked.query_log import CleanBaseline, Gradients, clean_gradients
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.evaluation.work.networks import takes_rng
from advbench.evaluation.work.workspace import Workspace
from advbench.specs import Chain

__all__ = ["AttackedBatch", "SplitCalls", "count_runs"]

CHOICE_DRAWS = 10
"""The least number of draws of a stochastic classifier on which a result or a target class is chosen."""


def count_runs(workspace: Workspace, task: CraftTask | FitTask) -> int:
    """How often a task's attack runs: once with each approximation of the defense if it uses gradients, else once."""
    attack = workspace.attack(task.attack)
    if not task.defense or attack.access != "gradients":
        return 1
    if isinstance(task, CraftTask) and task.artefact and attack.passes() == 0:  # the fit alone has used gradients
        return 1
    return len(_numbers(workspace, task))


def _numbers(workspace: Workspace, task: CraftTask | FitTask) -> tuple[int, ...]:
    """Which approximations of the defense a task's attack uses, one in each run, counted from 0."""
    count = count_approximations(workspace.chain(task.defense)) if task.defense else 1
    return approximation_numbers(workspace.attack(task.attack), count)


class AttackedBatch:
    """Some of a task's samples and the classifier that is attacked on them.

    Args:
        workspace: Where everything is loaded.
        task: The task.
        start: The position of the first sample.
        baseline: Whether :meth:`judge` will be called, which needs the classifier's predictions on the clean images.

    Attributes:
        ids: The samples.
        clean: Their images.
        labels: Their labels.
        goal: What the attack should make of them; the target class is -1 for a sample that is not attacked.
        attacked_rows: The samples that are attacked.
        target: The classifier as the attack sees it in its first run.
        numbers: Which of the defense's approximations the attack tries, counted from 0.
        approximations: With how many of them it runs: one if it follows no gradients.
        exact: Whether the images are judged by that classifier, and not by one in float32.
    """

    def __init__(self, workspace: Workspace, task: CraftTask | FitTask, start: int, *, baseline: bool = True) -> None:
        self.workspace, self.task, self.start = workspace, task, start
        self.ids = task.ids[start : min(start + (task.group_size or workspace.batch_size), task.positions.stop)]
        images, labels = workspace.images(task.dataset).take(self.ids)
        self.clean, self.labels = images.to(workspace.device), labels.to(workspace.device)
        self.model = workspace.model(task.model)
        self.numbers, self.approximations = _numbers(workspace, task), count_runs(workspace, task)
        access = workspace.attack(task.attack).access
        self._labels_only, self._without_gradients = access in ("labels", "nothing"), access != "gradients"
        network = workspace.network(task.model)
        policy = goal_of(workspace.attack(task.attack))
        self.goal = choose_targets(policy, self.labels, self._undefended_logits, self.ids, task.seed)
        attackable = self.labels >= 0 if self.goal.targets is None else self.goal.targets >= 0
        self.attacked_rows = attackable.nonzero().flatten()
        self.exact = workspace.attacked_network(task.model, task.precision) is network
        self.target = self._attacked(self.numbers[0])
        judge = self.target if self.exact else self._defended(network, "attacked defense in float32", task.draws)
        self._judge = self._split(judge.target if isinstance(judge, InsetGradients) else judge)
        self.target = self._split(self.target)
        # A stochastic classifier's outputs depend on earlier queries: it is run after the attack, for each attack.
        self._baseline = None if is_stochastic(self._judge) or not baseline else self._shared_baseline()

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
        """The classifier as the attack sees it in one of its runs, from 0: with the approximation of this run."""
        return self._split(self._attacked(self.numbers[number])) if number else self.target

    def fitted(self) -> Artefact | None:
        """What the attack has fitted; None if it fits nothing."""
        return artefact_of(self.workspace, self.task)

    @torch.no_grad()
    def ranks(self, attack: Attack, adversarial: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """How good an attack's results are: shape (rows, 2), better if the first number is larger, or then the second.

        These are the share of draws in which the goal is reached, and the mean margin of
        the goal. If a minimal attack reaches it in at least half of the draws, they are 1 and the negative
        distance. The draws are the same at every call; no attack has seen them, and they are not used for scoring.

        Args:
            attack: The attack.
            adversarial: Its images.
            rows: The samples of the batch that they belong to.
        """
        network, goal = self.workspace.network(self.task.model), self.goal[rows]
        judge = for_rows(self._split(self._defended(network, "choice of approximation", 1)), rows)
        draws = max(self.task.draws, CHOICE_DRAWS) if is_stochastic(judge) else 1
        logits = torch.stack([self._logits(judge, adversarial) for _ in range(draws)])
        margins = torch.stack([goal.margin(draw) for draw in logits])
        wide = widest_float(adversarial.device)
        rates = torch.stack([goal.reached(draw) for draw in logits]).to(wide).mean(dim=0)
        ranks = torch.stack((rates, margins.to(wide).mean(dim=0)), dim=1)
        if is_minimal(attack):
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
        if not task.defense and not takes_rng(network):
            return network
        streams = SampleRandom(task.seed, purpose, self.ids, workspace.device)
        fitted = chain_artefacts(workspace, task.defense, fitted_keys(task.key_inputs))
        return DefendedClassifier(
            network,
            self._chain,
            streams,
            draws,
            number=number,
            labels=self.labels,
            fitted=fitted,
            without_gradients=self._without_gradients,
        )

    @property
    def _chain(self) -> Chain:
        """The defense that the attack sees; without parts if it sees none."""
        return self.workspace.chain(self.task.defense) if self.task.defense else Chain(())

    def _shared_baseline(self) -> CleanBaseline:
        """The classifier's predictions and gradients on the clean images: computed once for all attacks."""
        task, baselines = self.task, self.workspace.clean_baselines
        key = (
            *(task.dataset, task.model, task.defense, task.seed, task.key_inputs["ids"], self.start, len(self.ids)),
            self._without_gradients,
            self.numbers,
            *fitted_keys(task.key_inputs),
        )
        if key not in baselines:
            baselines[key] = CleanBaseline(self._predict(self.clean), self._gradients())
        return baselines[key]

    def _gradients(self) -> Gradients:
        """The classifier's gradients: as the attack sees them, unless another classifier judges the images.

        A problem counts if the gradients of all approximations have it. A model that gives no gradients has none.
        """
        if self.model.gives != "gradients":
            none = torch.zeros_like(self.labels, dtype=torch.bool)
            return Gradients(none, none, none, "")
        gradients = clean_gradients(self.target if self.exact else self._judge, self.clean, self.labels)
        for number in range(1, len(self.numbers) if self.exact else 1):
            if not torch.stack(gradients[:3]).any():
                break
            other = clean_gradients(self.attacked(number), self.clean, self.labels)
            vanished, non_finite, flat = (a & b for a, b in zip(gradients[:3], other[:3], strict=True))
            gradients = Gradients(vanished, non_finite, flat, gradients.error or other.error)
        return gradients

    def _with_inside_slopes(self, target: torch.nn.Module, number: int) -> torch.nn.Module:
        """The classifier with gradients from inside [0, 1], if it has none at the bounds; the same in every batch."""
        task, workspace = self.task, self.workspace
        keys = fitted_keys(task.key_inputs)
        key = (task.dataset, task.model, task.defense, task.seed, number, *keys)
        if key not in workspace.insets:
            data = workspace.images(task.dataset)
            first, labels = data.take(data.ids[:4].tolist())
            points = sample_points(first).to(workspace.device)
            streams = SampleRandom(task.seed, "slopes at the bounds", range(len(points)), workspace.device)
            classifier = network = workspace.network(task.model)
            if task.defense or takes_rng(network):
                some = labels.repeat(len(points))[: len(points)].to(workspace.device)
                fitted = chain_artefacts(workspace, task.defense, keys)
                classifier = DefendedClassifier(
                    network, self._chain, streams, 1, number=number, labels=some, fitted=fitted
                )
            workspace.insets[key] = find_inset(classifier, points, max(1, workspace.batch_size))
        inset = workspace.insets[key]
        return target if inset is None else InsetGradients(target, inset)

    @torch.no_grad()
    def _undefended_logits(self) -> torch.Tensor:
        """The network's logits for the clean images, without a defense; of a stochastic model the mean over draws."""
        network, size = self.workspace.network(self.task.model), self.workspace.batch_size
        if not takes_rng(network):
            return torch.cat([self._logits(network, images) for images in torch.split(self.clean, size)])
        rng = SampleRandom(self.task.seed, "undefended model", self.ids, self.workspace.device)
        classifier = ChainPass(Chain(()), network, size).classifier(rng)
        return torch.stack([self._logits(classifier, self.clean) for _ in range(CHOICE_DRAWS)]).mean(dim=0)

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

    def full_answer(self, images: torch.Tensor) -> Answer:
        """The target's full answer; see :func:`advbench.api.answer`."""
        if len(images) <= self.batch_size:
            return answer(self.target, images)
        parts = torch.split(torch.arange(len(images), device=images.device), self.batch_size)
        answers = [answer(for_rows(self.target, part), images[part]) for part in parts]
        scores = [one.score for one in answers if one.score is not None]
        return Answer(torch.cat([one.logits for one in answers]), torch.cat(scores) if scores else None)

    def _logits(self, target: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        if self.stochastic or not torch.is_grad_enabled():
            return target(images)  # type: ignore[no-any-return]
        from torch.utils.checkpoint import checkpoint

        return checkpoint(target, images, use_reentrant=False)  # type: ignore[no-any-return]
