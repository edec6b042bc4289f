"""Findings about comparisons of attacks, which must be significant; and about clean predictions and budgets."""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from advbench.analysis import summarise
from advbench.analysis.sanity import clean_accuracy as baseline
from advbench.analysis.sanity import gradients, lost_success
from advbench.analysis.sanity import masked_gradients as strength
from advbench.analysis.sanity.finding import Finding, FinishedCell

N = 200


def cell(
    index: int = 0,
    *,
    withstood: int | Sequence[int] = N,
    n: int = N,
    attack: str = "some-attack",
    threat: str = "oblivious",
    defense: str = "none",
    labels: Any = None,
    predictions: Any = None,
    draws: Any = None,
    **entries: Any,
) -> FinishedCell:
    """A cell whose classifier predicts all clean samples correctly, and withstands the given ones."""
    labels = np.arange(n) % 10 if labels is None else np.asarray(labels)
    predictions = labels if predictions is None else np.asarray(predictions)
    kept = np.isin(np.arange(n), np.arange(withstood) if isinstance(withstood, int) else withstood)
    attacked = np.where(kept, predictions, (predictions + 1) % 10)
    coordinates = {"dataset": "d", "model": "m", "attack": attack, "threat": threat, "defense": defense}
    described = {
        **coordinates,
        "short": {"attack": attack, "defense": defense},
        "budget": {"norm": "linf", "eps": 0.3},
        "parameters": {},
        "attack_access": "gradients",
        "attack_passes": 10,
        "draws_a_gradient": 1,
        "identity": defense == "none",
        "stochastic": draws is not None,
        "image_shape": [1, 8, 8],
        **entries,
    }
    record = {
        **coordinates,
        "status": "ok",
        "n": n,
        "seconds": 1.0,
        "craft_seconds": 1.0,
        "labels": labels,
        "clean_correct": predictions == labels,
        "adversarial_correct": attacked == labels,
        "attacked_clean_predictions": predictions,
        "attacked_predictions": attacked,
        "linf": np.full(n, 0.3),
        "l2": np.full(n, 3.0),
    }
    if draws is not None:
        record["robust_draws"] = draws
    return FinishedCell(index, described, summarise(record, None))


def single_step(weak: Any, strong: Any, **more: Any) -> list[Finding]:
    cells = [cell(0, withstood=strong, attack="fgsm", attack_passes=1, **more), cell(1, withstood=weak, **more)]
    return list(strength.single_step_wins(cells))


def not_monotone(weak: Any, strong: Any) -> list[Finding]:
    budgets = [{"norm": "linf", "eps": eps} for eps in (0.1, 0.3)]
    few = cell(0, withstood=strong, attack="one:eps=0.1", budget=budgets[0])
    return list(strength.not_monotone([few, cell(1, withstood=weak, attack="one:eps=0.3", budget=budgets[1])]))


def less_access(weak: Any, strong: Any) -> list[Finding]:
    return list(
        strength.less_access_wins(
            [cell(0, withstood=weak), cell(1, attack="noise", withstood=strong, attack_access="nothing")]
        )
    )


def transfer(weak: Any, strong: Any) -> list[Finding]:
    return list(strength.less_access_wins([cell(0, withstood=weak), cell(1, withstood=strong, threat="transfer")]))


def adaptive(weak: Any, strong: Any) -> list[Finding]:
    cells = [cell(0, withstood=strong, defense="jpeg"), cell(1, withstood=weak, defense="jpeg", threat="adaptive")]
    return list(strength.adaptive_weaker(cells))


def convergence(weak: Any, strong: Any) -> list[Finding]:
    return list(lost_success.not_converged([cell(0, withstood=weak)], {0: cell(0, withstood=strong)}))


COMPARISONS = [single_step, not_monotone, less_access, transfer, adaptive, convergence]


@pytest.mark.parametrize("criterion", COMPARISONS)
def test_a_significant_difference_is_a_finding_with_both_numbers(criterion: Any) -> None:
    (finding,) = criterion(range(110), range(100))
    assert "55.0%" in finding.message
    assert "50.0%" in finding.message


@pytest.mark.parametrize("criterion", COMPARISONS)
def test_an_equal_difference_on_more_varied_samples_is_not_significant(criterion: Any) -> None:
    """Ten samples more, as above, but the two attacks differ on ninety samples."""
    assert criterion(range(50, 150), range(10, 100)) == []


@pytest.mark.parametrize("criterion", COMPARISONS)
def test_a_difference_of_few_samples_is_not_significant(criterion: Any) -> None:
    assert criterion(range(104), range(100)) == []
    assert criterion(range(100), range(100)) == []
    assert criterion(range(100), range(110)) == []


def test_parts_without_gradients_must_fool_enough_samples() -> None:
    def findings(count: int) -> list[Finding]:
        ensemble = cell(component_access=["gradients", "scores"], components=["apgd", "square"])
        summary = ensemble.summary._replace(broken_by={0: 50, 1: count})
        return list(strength.less_access_wins([FinishedCell(0, ensemble.described, summary)]))

    assert findings(4) == []
    (finding,) = findings(6)
    assert "square, a part of some-attack without gradients, fools 6 of 200" in finding.message


def test_significance_is_corrected_for_the_number_of_comparisons() -> None:
    """Six more samples of 100 have p = .016 in a single comparison, which is not significant among twenty."""
    assert len(single_step(range(106), range(100))) == 1
    cells = []
    for number in range(20):
        weak = range(106) if number == 7 else range(100)
        more = {"threat": "adaptive", "defense": f"defense-{number}"}
        cells.append(cell(2 * number, withstood=range(100), attack="fgsm", attack_passes=1, **more))
        cells.append(cell(2 * number + 1, withstood=weak, **more))
    assert list(strength.single_step_wins(cells)) == []


def test_draws_of_a_stochastic_defense_are_tested_together_and_their_mean_is_reported() -> None:
    """A single draw would not be significant; ten draws on the same samples are."""

    def draws(count: int) -> list[np.ndarray[Any, Any]]:
        return [(np.arange(N) + shift) % N < count for shift in range(10)]

    def findings(weak: int, draw_count: int = 10) -> list[Finding]:
        more = {"threat": "adaptive", "defense": "noise"}
        single = cell(0, attack="fgsm", attack_passes=1, draws=draws(100)[:draw_count], **more)
        return list(strength.single_step_wins([single, cell(1, draws=draws(weak)[:draw_count], **more)]))

    assert findings(104, 1) == []
    (finding,) = findings(104)
    assert "52.0%" in finding.message
    assert "with eot set to 10" in finding.advice
    assert findings(100) == []


def test_the_best_of_several_single_steps_is_compared() -> None:
    cells = [
        cell(0, withstood=150, attack="fgsm", attack_passes=1),
        cell(1, withstood=90, attack="better-step", attack_passes=1),
        cell(2, withstood=120),
    ]
    (finding,) = strength.single_step_wins(cells)
    assert "better-step leaves 45.0%" in finding.message


@pytest.mark.parametrize(
    ("parameters", "attack", "wanted", "unwanted"),
    [
        ({"steps": 40}, "pgd:steps=40", "give it more steps, or use autoattack", "restarts"),
        ({"steps": 40, "restarts": 1}, "apgd", "give it more steps or restarts", "queries"),
        ({"queries": 5}, "square", "give it more queries", "steps"),
        ({}, "fgsm", "use autoattack", "give it more"),
        ({"steps": 100, "queries": 5000}, "autoattack:eps=0.3", "give it more steps or queries", "use autoattack"),
    ],
)
def test_advice_names_only_parameters_of_the_attack(
    parameters: dict[str, int], attack: str, wanted: str, unwanted: str
) -> None:
    cells = [
        cell(0, withstood=100, attack="one-step", attack_passes=1),
        cell(1, attack=attack, parameters=parameters, withstood=150),
    ]
    (finding,) = strength.single_step_wins(cells)
    assert wanted in finding.advice
    assert unwanted not in finding.advice
    assert "eot" not in finding.advice


LABELS = np.arange(N) % 10


def mostly(answers: Any, share: float = 0.95) -> Any:
    """These predictions for a share of the samples, and random ones for the others."""
    rng = np.random.default_rng(0)
    return np.where(rng.random(len(answers)) < share, answers, rng.integers(0, 10, len(answers)))


def swapped(labels: Any) -> Any:
    return np.select([labels == 3, labels == 5], [5, 3], labels)


@pytest.mark.parametrize(
    ("predictions", "expected"),
    [
        (mostly((LABELS + 1) % 10), "the label plus 1 for 18"),
        (mostly((LABELS - 1) % 10), "the label minus 1 for 18"),
        (mostly(np.random.default_rng(5).permutation(10)[LABELS]), "classes as other numbers (label "),
        (mostly(swapped(LABELS)), "of 2 classes as other numbers (label 3 as 5, 5 as 3)"),
        (LABELS * 90 + 7, "classes as other numbers (label 0 as 7, 1 as 97, 2 as 187, …)"),
    ],
    ids=["plus-one", "minus-one", "permuted", "two-swapped", "ids-of-another-set"],
)
def test_labels_that_the_model_numbers_differently_are_a_finding(predictions: Any, expected: str) -> None:
    (finding,) = baseline.labels_renumbered([cell(labels=LABELS, predictions=predictions)])
    assert expected in finding.message


def test_classes_of_another_numbering_are_named() -> None:
    named = dataclasses.replace(
        cell(labels=LABELS, predictions=mostly(swapped(LABELS))), class_names=["plane", "car", "bird", "cat", "deer"]
    )
    (finding,) = baseline.labels_renumbered([named])
    assert "(label 3 (cat) as 5, 5 as 3 (cat))" in finding.message


def test_errors_of_weak_models_are_not_another_numbering() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.3, 0.6):
        for n in (10, 30, 200):
            labels = rng.integers(0, 10, n)
            answers = np.where(rng.random(n) < share, labels, rng.integers(0, 10, n))
            assert list(baseline.labels_renumbered([cell(n=n, labels=labels, predictions=answers)])) == []
    half = np.where(LABELS % 2 == 0, LABELS, (LABELS + 1) % 10)  # every odd class is predicted as an even one
    assert list(baseline.labels_renumbered([cell(labels=LABELS, predictions=half)])) == []
    assert list(baseline.labels_renumbered([cell(labels=np.zeros(N, int), predictions=np.ones(N, int))])) == []


@pytest.mark.parametrize("defense", ["none", "jpeg"])
def test_clean_accuracy_at_chance_is_a_finding_with_any_defense(defense: str) -> None:
    answers = np.random.default_rng(1).integers(0, 10, N)
    (finding,) = baseline.no_better_than_chance([cell(labels=LABELS, predictions=answers, defense=defense)])
    assert f"clean accuracy of {defense} is {np.mean(answers == LABELS):.1%} of 200 samples" in finding.message
    assert "10.0%" in finding.message


@pytest.mark.parametrize(("right", "n"), [(4, 10), (2, 10), (0, 9), (30, 100), (60, 200)])
def test_a_low_clean_accuracy_of_few_samples_is_not_a_finding(right: int, n: int) -> None:
    labels = np.arange(n) % 10
    answers = np.where(np.arange(n) < right, labels, (labels + 1 + np.arange(n) // 10 % 3) % 10)
    assert list(baseline.no_better_than_chance([cell(n=n, labels=labels, predictions=answers)])) == []


def test_chance_is_the_share_of_the_most_frequent_class() -> None:
    labels = np.repeat([0, 1], [800, 200])
    (finding,) = baseline.no_better_than_chance([cell(n=1000, labels=labels, predictions=np.zeros(1000, int))])
    assert "80.0%" in finding.message
    assert list(baseline.no_better_than_chance([cell(labels=np.zeros(N, int))])) == []


def test_predicting_one_class_is_a_finding_unless_it_is_frequent() -> None:
    (finding,) = baseline.one_class_answered([cell(labels=LABELS, predictions=mostly(np.full(N, 8)))])
    assert "predicts class 8 for" in finding.message
    frequent = np.repeat([0, 1], [160, 40])
    assert len(list(baseline.one_class_answered([cell(labels=frequent, predictions=np.zeros(N, int))]))) == 1
    few = np.where(np.arange(N) == N - 1, 1, 0)  # a constant classifier would not predict one of the forty
    assert list(baseline.one_class_answered([cell(labels=frequent, predictions=few)])) == []
    assert list(baseline.one_class_answered([cell(n=6, predictions=np.zeros(6, int))])) == []


@pytest.mark.parametrize(
    ("norm", "eps", "expected"),
    [
        *(("linf", 8.0, True), ("linf", 1.5, True), ("linf", 1.0, False), ("linf", 8 / 255, False)),
        *(("l2", 8.1, True), ("l2", 8.0, False), ("l2", 1.5, False), ("l1", 65.0, True), ("l1", 30.0, False)),
    ],
)
def test_a_budget_larger_than_any_distance_is_a_finding(norm: str, eps: float, expected: bool) -> None:
    """Images of 8 × 8 pixels are at most 1 apart in L∞, 8 in L2 and 64 in L1."""
    findings = list(baseline.eps_beyond_images([cell(budget={"norm": norm, "eps": eps})]))
    assert [finding.criterion for finding in findings] == ["eps-beyond-images"] * expected
    if norm == "linf" and expected:
        assert f"eps={eps:g}/255" in findings[0].advice


def test_zero_gradients_in_any_cell_of_a_classifier_are_a_finding() -> None:
    affected, other = cell(0, attack="pgd"), cell(1, attack="apgd", withstood=0)
    for cells in ([affected, other], [other, affected]):
        summaries = [c.summary._replace(zero_gradients=7 * (c is affected)) for c in cells]
        changed = [FinishedCell(c.index, c.described, s) for c, s in zip(cells, summaries, strict=True)]
        (finding,) = gradients.zero_gradients(changed)
        assert "zero for 7 of 200" in finding.message


def in_set(index: int, kind: str, label: str, **entries: Any) -> FinishedCell:
    """A cell of an attack with another perturbation set than an Lp ball."""
    attack_kind = "natural" if kind == "corruption" else "set"
    perturbation = {"kind": kind, "label": label, "size": "size"}
    return cell(index, budget=None, attack_kind=attack_kind, perturbation=perturbation, **entries)


def test_attacks_of_one_perturbation_set_are_compared_and_those_of_others_are_not() -> None:
    def findings(second: str, kind: str = "geometric") -> list[Finding]:
        white = in_set(0, "geometric", "±30°, ±3 px", withstood=150, attack="turn-by-gradient")
        black = in_set(1, kind, second, withstood=90, attack="grid", attack_access="scores")
        return list(strength.less_access_wins([white, black]))

    (finding,) = findings("±30°, ±3 px")
    assert (finding.criterion, finding.cells) == ("less-access-does-better", (0,))
    assert findings("±45°, ±3 px") == []
    assert findings("area ≤ 5 %", "patch") == []
    in_ball = cell(1, withstood=90, attack="square", attack_access="scores")
    assert not list(strength.less_access_wins([in_set(0, "geometric", "±30°, ±3 px", withstood=150), in_ball]))


def test_corruptions_and_minimal_attacks_are_in_no_comparison_of_bounded_attacks() -> None:
    noise = in_set(1, "corruption", "severity 3", withstood=0, attack="noise", attack_access="nothing", threat="none")
    assert noise.perturbation_set is None
    assert not list(strength.less_access_wins([cell(0, withstood=150), noise]))
    assert not list(strength.unbounded_above_chance([noise, in_set(2, "unrestricted", "any image", withstood=150)]))
    assert not list(strength.impossible_accuracy([in_set(2, "patch", "area ≤ 5 %", withstood=150)]))


def minimal_cell(index: int, threat: str, distances: Any, fooled: Any) -> FinishedCell:
    """A cell of a minimal attack in L2."""
    made = cell(index, defense="jpeg", threat=threat, budget=None, attack="fmn", attack_kind="minimal")
    values = np.where(fooled, distances, np.inf).astype(np.float32)
    return dataclasses.replace(made, summary=made.summary._replace(distances=array("f", values.tobytes())))


def test_a_minimal_attack_that_knows_the_defense_must_not_need_more() -> None:
    rng = np.random.default_rng(0)
    near, fooled = rng.uniform(0.5, 1.5, 200), np.arange(200) % 5 != 0
    oblivious = minimal_cell(0, "oblivious", near, fooled)

    def findings(distances: Any, also: Any = fooled) -> list[Finding]:
        return list(strength.adaptive_weaker([oblivious, minimal_cell(1, "adaptive", distances, also)]))

    (finding,) = findings(near * 1.3)
    assert finding.cells == (1,)
    assert "does worse on 160 of 200 samples" in finding.message
    (without_success,) = findings(near, np.zeros(200, dtype=bool))
    assert "no success on most samples" in without_success.message
    assert not findings(near * 1.03), "differences of a few per cent are ignored"
    assert not findings(near * 0.9)
    assert not findings(rng.permutation(near)), "chance"
    few = rng.uniform(0.5, 1.5, 200) < 0.55
    assert not findings(np.where(few, near * 1.2, near * 0.8), fooled), "about as many samples need less"
    undone = minimal_cell(0, "oblivious", near, np.zeros(200, dtype=bool))
    assert not list(strength.adaptive_weaker([undone, minimal_cell(1, "adaptive", near * 3, fooled)])), (
        "a defense that undoes what does not know it may well need larger perturbations"
    )


def test_an_adaptive_attack_in_a_set_that_is_weaker_than_the_oblivious_one_is_reported() -> None:
    same = {"kind": "patch", "label": "area ≤ 5 %", "defense": "jpeg", "attack": "square-patch"}
    adaptive, oblivious = in_set(0, threat="adaptive", withstood=150, **same), in_set(1, withstood=90, **same)
    (finding,) = strength.adaptive_weaker([adaptive, oblivious])
    assert finding.criterion == "adaptive-weaker-than-oblivious"
