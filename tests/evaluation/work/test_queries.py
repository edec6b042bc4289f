"""Queries of attacks: counted exactly for each sample, and answered with no more than the attack's access."""

from __future__ import annotations

import contextlib
from collections import Counter

import pytest
import torch

from advbench.analysis.queries import CHECKPOINTS
from advbench.api import Attack, ContractError, Defense, Float32Network, Goal, LpBall, Patch, SampleRandom, for_rows
from advbench.api.rows import QueriesSpent
from advbench.discovery.loading import discover
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier
from advbench.evaluation.work.attacked.batch import SplitCalls
from advbench.evaluation.work.attacked.query_limit import QueryLimit
from advbench.evaluation.work.attacked.query_log import QueryLog, RecordingClassifier
from advbench.evaluation.work.attacked.query_meter import QueryMeter, earlier_repeats
from advbench.session.opening import CORE
from advbench.specs import Chain, resolve_one

REGISTRY = discover(CORE, ())
IDS = range(6)

NATIVE = [
    "fgsm:eps=0.05",
    "fgsm:search=minimal",
    "fgsm:search=foolbox2",
    "pgd:eps=0.05,steps=5",
    "pgd:eps=0.05,steps=5,early_stop=true",
    "pgd:eps=0.02,steps=3,restarts=3",
    "pgd:norm=l2,eps=0.2,steps=4,loss=dlr",
    "pgd:eps=0.05,steps=5,engine=foolbox",
    "pgd:search=minimal,steps=5",
    "pgd:search=foolbox2,steps=3",
    "deepfool",
    "deepfool:norm=linf,candidates=4",
    "cw:steps=30,search_steps=2",
    "ddn:steps=10",
    "fmn:steps=10",
    "fmn:norm=linf,steps=10",
    "apgd:eps=0.05,steps=8",
    "apgd-t:eps=0.02,steps=5,targets=2",
    "fab-t:steps=5,targets=3",
    "square:eps=0.05,queries=40",
    "autoattack:eps=0.02,steps=4,targets=2,queries=20",
    "noise:queries=6",
    "rays:queries=60",
    "rays:queries=60,eps=0.05",
    "foolbox:attack=HopSkipJumpAttack,steps=2,initial_gradient_eval_steps=4,max_gradient_eval_steps=8",
]


class Counting(torch.nn.Module):
    """A classifier that counts by itself, image by image, in Python; the gradients where they arrive at the images."""

    def __init__(self, network: torch.nn.Module, samples: int) -> None:
        super().__init__()
        self.network = network
        self.rows = list(range(samples))
        self.forwards: Counter[int] = Counter()
        self.backwards: Counter[int] = Counter()
        self.images = 0
        self.gradients = 0
        self.training = False

    def for_rows(self, rows: torch.Tensor) -> Counting:
        part = Counting(self.network, 0)
        part.rows = [self.rows[row] for row in rows.tolist()]
        part.forwards, part.backwards = self.forwards, self.backwards
        return part

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert len(images) == len(self.rows)
        self.forwards.update(self.rows)

        def arrived(_: torch.Tensor) -> None:
            self.backwards.update(self.rows)

        inputs = images * 1.0
        if inputs.requires_grad:
            inputs.register_hook(arrived)
        return self.network(inputs)


class CountingImages(torch.nn.Module):
    """Counts images and gradients in all, wherever they come from."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.images = self.gradients = 0
        self.training = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.images += len(images)

        def arrived(gradient: torch.Tensor) -> None:
            self.gradients += len(gradient)

        inputs = images * 1.0
        if inputs.requires_grad:
            inputs.register_hook(arrived)
        return self.network(inputs)


class Jitter(Defense):
    """Adds noise, which autograd can follow."""

    name = "jitter"
    differentiable = True
    stochastic = True

    def apply(self, images, rng):
        return images + rng.normal(*images.shape[1:], std=0.01)


def attack_named(spec: str) -> Attack:
    """The attack of a spec."""
    return resolve_one(REGISTRY, "attacks", spec)


@pytest.fixture
def network() -> torch.nn.Module:
    """A small convolutional network with fixed random weights."""
    generator = torch.Generator().manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 16, 10)
    )
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.empty_like(parameter).uniform_(-0.5, 0.5, generator=generator))
    return layers.eval().requires_grad_(False)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(len(IDS), 1, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def goal(network: torch.nn.Module, images: torch.Tensor) -> Goal:
    """Labels as the network predicts them, but for one image, which is misclassified without an attack."""
    labels = network(images).argmax(dim=1)
    labels[2] = (labels[2] + 1) % 10
    return Goal(labels)


def run(attack: Attack, model: torch.nn.Module, images: torch.Tensor, goal: Goal, **limits: int) -> QueryLog:
    """Attacks a model through a recording classifier."""
    log = QueryLog(images, goal, attack.perturbation(), **limits)
    recorder = RecordingClassifier(model, log, "model 'm'", attack=f"attack {attack.name!r}", access=attack.access)
    attack.craft(recorder, images.clone(), Goal(goal.labels.clone()), SampleRandom(0, "attack", IDS), None)
    return log


@pytest.mark.parametrize("spec", NATIVE)
def test_counts_equal_those_of_a_counting_network(
    spec: str, network: torch.nn.Module, images: torch.Tensor, goal: Goal
) -> None:
    counting = Counting(network, len(images))
    meter = run(attack_named(spec), counting, images, goal).meter
    assert meter.known
    assert meter.forwards.tolist() == [counting.forwards[row] for row in IDS]
    assert meter.backwards.tolist() == [counting.backwards[row] for row in IDS]
    assert meter.total_forwards == counting.forwards.total() > 0
    assert meter.total_backwards == counting.backwards.total()


@pytest.mark.parametrize("spec", ["pgd:eps=0.05,steps=5,early_stop=true", "square:eps=0.05,queries=30", "deepfool"])
@pytest.mark.parametrize("draws", [1, 3])
def test_each_draw_of_a_defense_counts(
    spec: str, draws: int, network: torch.nn.Module, images: torch.Tensor, goal: Goal
) -> None:
    counting = CountingImages(network)
    model = DefendedClassifier(Float32Network(counting), Chain((Jitter(),)), SampleRandom(0, "d", IDS), draws)
    meter = run(attack_named(spec), SplitCalls(model, 100), images, goal).meter
    assert meter.total_forwards == counting.images == int(meter.forwards.sum())
    assert meter.total_backwards == counting.gradients == int(meter.backwards.sum())
    assert (meter.forwards % draws == 0).all()
    assert (meter.first_success % draws == (0 if draws == 1 else -1 % draws)).logical_or(meter.seen).all()


class Recorded(torch.nn.Module):
    """Keeps every query with its samples, to find the first success and the best sizes afterwards."""

    def __init__(self, network: torch.nn.Module, samples: int) -> None:
        super().__init__()
        self.network, self.rows = network, list(range(samples))
        self.queries: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self.training = False

    def for_rows(self, rows: torch.Tensor) -> Recorded:
        part = Recorded(self.network, 0)
        part.rows, part.queries = [self.rows[row] for row in rows.tolist()], self.queries
        return part

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = self.network(images)
        self.queries += zip(self.rows, images.detach().clone(), logits.detach(), strict=True)
        return logits


def test_first_successes_are_those_within_the_budget(
    network: torch.nn.Module, images: torch.Tensor, goal: Goal
) -> None:
    recorded = Recorded(network, len(images))
    found = run(attack_named("square:eps=0.05,queries=200"), recorded, images, goal).meter.first_success.tolist()
    expected, asked = dict.fromkeys(IDS, -1), Counter[int]()
    for row, _, logits in recorded.queries:
        asked[row] += 1
        if expected[row] < 0 and logits.argmax() != goal.labels[row]:
            expected[row] = asked[row]
    assert found == list(expected.values())
    assert found[2] == 1, "it is misclassified without an attack"
    assert len(set(found)) > 3


def test_a_success_outside_the_budget_is_none(network: torch.nn.Module, images: torch.Tensor, goal: Goal) -> None:
    log = QueryLog(images, goal, LpBall("linf", 1e-4))
    RecordingClassifier(network, log, "m")(1 - images)
    assert (network(1 - images).argmax(dim=1) != goal.labels).any()
    assert not log.seen.any()
    assert log.meter.first_success.tolist() == [-1] * len(images)


@pytest.mark.parametrize("spec", ["pgd:search=minimal,steps=20", "ddn:steps=150", "fmn:norm=linf,steps=150"])
def test_best_sizes_at_checkpoints(spec: str, network: torch.nn.Module, images: torch.Tensor, goal: Goal) -> None:
    attack, recorded = attack_named(spec), Recorded(network, len(images))
    best = run(attack, recorded, images, goal).meter.best_sizes
    order = float("inf") if attack.minimized_norm() == "linf" else 2
    assert best is not None
    asked, smallest = Counter[int](), {(row, place): float("inf") for row in IDS for place in range(len(CHECKPOINTS))}
    for row, point, logits in recorded.queries:
        asked[row] += 1
        if logits.argmax() != goal.labels[row]:
            size = float((point.double() - images[row].double()).flatten().norm(p=order))
            for place, checkpoint in enumerate(CHECKPOINTS):
                if asked[row] <= checkpoint:
                    smallest[row, place] = min(smallest[row, place], size)
    assert max(asked.values()) > CHECKPOINTS[0]
    expected = torch.tensor(list(smallest.values()), dtype=torch.float64).reshape(best.shape)
    torch.testing.assert_close(best, expected, rtol=1e-12, atol=0)


class Refusals(QueryLimit):
    """A limit that counts the answers without a meaning."""

    count = 0

    def refusal(self, rows: torch.Tensor, images: torch.Tensor, classes: int) -> torch.Tensor:
        self.count += len(rows)
        return super().refusal(rows, images, classes)


@pytest.mark.parametrize(
    "spec",
    [
        "foolbox:attack=HopSkipJumpAttack",
        "foolbox:attack=BoundaryAttack",
        "foolbox:attack=L2DeepFoolAttack",
        "foolbox:attack=LinfPGD,eps=0.05",
    ],
)
def test_an_attack_of_foolbox_ends_with_the_queries_of_each_sample(
    spec: str, network: torch.nn.Module, images: torch.Tensor, goal: Goal
) -> None:
    attack, most = attack_named(spec), 60

    def limited(rows: list[int]) -> Refusals:
        part, aims = images[rows], goal[torch.tensor(rows)]
        log = QueryLog(part, aims, attack.perturbation(), most=most)
        log.limit = Refusals(most, part, aims, keep_last=False)
        recorder = RecordingClassifier(network, log, "model 'm'", attack="the attack", access=attack.access)
        with contextlib.suppress(QueriesSpent):
            attack.craft(recorder, part.clone(), aims, SampleRandom(0, "attack", rows), None)
        return log.limit

    together, alone = limited(list(IDS)), [limited([row]) for row in IDS]
    assert together.count + sum(limit.count for limit in alone) <= 2 * len(IDS)
    assert torch.equal(together.spent, torch.cat([limit.spent for limit in alone]))
    spent = together.spent
    assert together.result()[spent].tolist() == torch.cat([limit.result() for limit in alone])[spent].tolist()


def test_several_points_of_a_sample_in_one_call_count_in_their_order(
    network: torch.nn.Module, images: torch.Tensor, goal: Goal
) -> None:
    log = QueryLog(images, goal, LpBall("linf", 1.0))
    first, second = (
        ((network(1 - images).argmax(dim=1) != goal.labels) & ~network(images).argmax(dim=1).ne(goal.labels))
        .nonzero()
        .flatten()[:2]
        .tolist()
    )
    rows = torch.tensor([second, second, first, second, first])
    points = torch.stack([images[second], 1 - images[second], images[first], 1 - images[second], 1 - images[first]])
    for_rows(RecordingClassifier(network, log, "m"), rows)(points)
    expected = {first: (2, 2), second: (3, 2)}
    assert log.meter.forwards.tolist() == [expected.get(row, (0, -1))[0] for row in IDS]
    assert log.meter.first_success.tolist() == [expected.get(row, (0, -1))[1] for row in IDS]
    rows = torch.tensor([3, 3, 0, 3, 0])
    assert earlier_repeats(rows).tolist() == [0, 1, 0, 2, 1]


def test_images_of_unknown_samples_count_in_the_totals_alone(
    network: torch.nn.Module, images: torch.Tensor, goal: Goal
) -> None:
    log = QueryLog(images, goal, LpBall(None))
    recorder = RecordingClassifier(network, log, "m")
    recorder(torch.cat([images, images]))
    assert (log.meter.total_forwards, log.queried_images) == (12, 12)
    assert not log.meter.known
    assert not QueryMeter(goal.labels, sizes=False).forwards.any()


def test_a_meter_does_not_wait_for_a_device(images: torch.Tensor) -> None:
    meter = QueryMeter(torch.zeros(6, dtype=torch.int64, device="meta"), sizes=True)  # cannot be read at all
    rows = torch.zeros(3, dtype=torch.int64, device="meta")
    meter.count_forwards(None, 6, 2)
    meter.count_forwards(rows, 3, 2)
    meter.count_backwards(rows, 3, 2)
    asked, valid = meter.spent_at(rows, 2), torch.zeros(3, dtype=torch.bool, device="meta")
    meter.record_successes(rows, asked, valid, torch.zeros(3, dtype=torch.float64, device="meta"))
    assert (meter.total_forwards, meter.total_backwards) == (18, 6)


def test_sets_that_cannot_tell_know_no_successes(network: torch.nn.Module, images: torch.Tensor, goal: Goal) -> None:
    log = QueryLog(images, goal, Patch(0.1))
    RecordingClassifier(network, log, "m")(images)
    assert not log.knows_successes
    assert not log.seen.any()
    assert log.meter.forwards.tolist() == [1] * len(images)


class Asking(Attack):
    """Makes one call, and keeps the answer."""

    name = "asking"
    kept: torch.Tensor

    def craft(self, model, images, goal, rng, fitted=None):
        type(self).kept = model(images.requires_grad_())
        return images.detach()


@pytest.mark.parametrize("access", ["gradients", "scores", "labels"])
def test_an_attack_gets_what_it_declares(
    access: str, network: torch.nn.Module, images: torch.Tensor, goal: Goal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Asking, "access", access)
    log = run(Asking(), network, images, goal)
    logits = network(images)
    assert Asking.kept.requires_grad == (access == "gradients")
    expected = torch.eye(10)[logits.argmax(dim=1)] if access == "labels" else logits
    assert torch.equal(Asking.kept.detach(), expected)
    assert Asking.kept.dtype == torch.float32
    assert log.seen.tolist() == [False, False, True, False, False, False]


def test_an_attack_with_access_to_nothing_cannot_call_the_model(
    network: torch.nn.Module, images: torch.Tensor, goal: Goal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Asking, "access", "nothing")
    with pytest.raises(ContractError, match="attack 'asking' called the model, but declares access = 'nothing'"):
        run(Asking(), network, images, goal)
