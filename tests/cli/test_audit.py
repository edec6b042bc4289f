"""Sanity checks: each is raised by a component that violates it, and none by a run in order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

pytestmark = pytest.mark.slow

CHEATS = Path(__file__).parents[1] / "cheating_plugin.py"
BOTH = ("--threats", "oblivious", "adaptive")

Toy = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def found(toy: Toy) -> Callable[..., set[str]]:
    """Runs a matrix with the cheating plugin and returns the criteria of its findings."""

    def run(*flags: object, **axes: Any) -> set[str]:
        _, results = toy("--plugin", CHEATS, *flags, **axes)
        assert all(cell["status"] == "ok" for cell in results["cells"]), results["cells"]
        criteria = {finding["criterion"] for finding in results["findings"]}
        assert criteria == {name for cell in results["cells"] for name in cell["findings"]}
        return criteria

    return run


VIOLATIONS: dict[str, tuple[tuple[object, ...], dict[str, Any]]] = {
    "clean-accuracy-at-chance": ((), {"defenses": ["toy-keep", "toy-flip"]}),
    "labels-renumbered": ((), {"models": ["cheat-renumbered"]}),
    "one-class-answered": ((), {"models": ["cheat-constant"]}),
    "eps-beyond-images": ((), {"attacks": ["toy-sign:eps=8"]}),
    "iterative-weaker-than-single-step": ((), {"attacks": ["toy-sign:eps=0.2", "cheat-idle"]}),
    "not-monotone-in-eps": ((), {"attacks": ["cheat-shy:eps={0.1,0.2}"]}),
    "unbounded-above-chance": ((), {"attacks": ["cheat-idle:eps=1"]}),
    "impossible-accuracy": (BOTH, {"attacks": ["cheat-idle:eps=0.5"]}),
    "less-access-does-better": ((), {"attacks": ["cheat-idle", "cheat-luck"]}),
    "adaptive-weaker-than-oblivious": (BOTH, {"defenses": ["cheat-backwards"]}),
    "no-gradient": ((), {"models": ["cheat-detached"], "attacks": ["cheat-idle"]}),
    "zero-gradients": ((), {"models": ["cheat-rounded"]}),
    "success-thrown-away": ((), {"attacks": ["cheat-forgetful"]}),
    "lost-to-rounding": ((), {"attacks": ["cheat-hair"]}),
    "not-repeatable": ((), {"defenses": ["cheat-wild"]}),
    "undeclared-randomness": ((), {"defenses": ["cheat-secret"]}),
    "fixed-randomness": ((), {"defenses": ["cheat-fixed"]}),
    "randomised-without-eot": ((*BOTH, "--eot", 1), {"defenses": ["toy-noise"]}),
    "batch-dependent": ((), {"defenses": ["cheat-batchy"]}),
    "not-converged": (("--check-convergence",), {"attacks": ["cheat-slow"]}),
}


@pytest.mark.parametrize("criterion", VIOLATIONS)
def test_a_component_that_violates_a_check_is_found(criterion: str, found: Callable[..., set[str]]) -> None:
    flags, axes = VIOLATIONS[criterion]
    assert criterion in found(*flags, **axes)


@pytest.mark.parametrize("defense", ["cheat-flat", "cheat-backwards"])
def test_a_stand_in_that_misleads_is_found_by_what_it_does(defense: str, found: Callable[..., set[str]]) -> None:
    criteria = found(*BOTH, defenses=[defense])
    assert "adaptive-weaker-than-oblivious" in criteria
    assert ("zero-gradients" in criteria) == (defense == "cheat-flat")


@pytest.mark.parametrize("attack", ["fmn:steps=30", "deepfool", "fmn:steps=300,goal=next"])
def test_a_minimal_attack_that_needs_more_when_it_knows_the_defense_is_found(
    attack: str, found: Callable[..., set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADVBENCH_DISABLE_PLUGINS")
    assert "adaptive-weaker-than-oblivious" in found(*BOTH, attacks=[attack], defenses=["cheat-backwards"])
    for defense in ("toy-dim", "toy-noise:sigma=0.02", "toy-keep"):
        criteria = found(*BOTH, "--eot", 5, attacks=[attack], defenses=[defense])
        assert "adaptive-weaker-than-oblivious" not in criteria


def test_transferred_images_that_do_better_than_gradients_tell_of_masked_ones(found: Callable[..., set[str]]) -> None:
    flags = ("--threats", "adaptive", "transfer", "--surrogate", "toy-linear:scale=2")
    assert "less-access-does-better" in found(*flags, defenses=["cheat-flat"])
    assert found(*flags, defenses=["toy-dim"]) == set()


def test_a_part_without_gradients_that_fools_more_is_not_hidden_by_the_whole(found: Callable[..., set[str]]) -> None:
    assert found(attacks=["cheat-medley"]) == {"less-access-does-better"}
    assert found(attacks=["cheat-medley:blind=false"]) == set()


def test_an_undefended_model_cannot_withstand_everything_either(found: Callable[..., set[str]]) -> None:
    assert "impossible-accuracy" in found(attacks=["cheat-idle:eps=0.5"], defenses=["toy-keep"])
    assert "impossible-accuracy" not in found(attacks=["cheat-idle:eps=0.5"], defenses=["toy-dim"])


def test_noise_makes_no_claims(found: Callable[..., set[str]]) -> None:
    assert found(*BOTH, attacks=["toy-sign:eps=0.5", "cheat-static:eps={0.1,0.5}"], defenses=["toy-keep"]) == set()


def test_the_best_attack_says_what_is_impossible(found: Callable[..., set[str]]) -> None:
    criteria = found(*BOTH, attacks=["toy-sign:eps=0.5", "cheat-idle:eps=0.5"], defenses=["toy-keep"])
    assert criteria == {"iterative-weaker-than-single-step"}


def test_a_run_in_order_raises_nothing(found: Callable[..., set[str]]) -> None:
    attacks = ["toy-sign:eps={0.05,0.1,0.2,0.4}", "cheat-slow:eps=0.2,steps=20", "toy-minimal"]
    defenses = ["toy-keep", "toy-dim", "cheat-steady", "toy-noise:sigma=0.05"]
    assert found(*BOTH, "--check-convergence", attacks=attacks, defenses=defenses) == set()


def test_a_fixed_seed_is_found_behind_an_algorithm_that_draws(found: Callable[..., set[str]]) -> None:
    assert "fixed-randomness" in found(defenses=["cheat-steady+cheat-fixed"])


def test_few_samples_say_nothing_of_chance(found: Callable[..., set[str]]) -> None:
    criteria = found("--limit", 6, models=["cheat-constant", "cheat-renumbered"], defenses=["toy-keep", "toy-flip"])
    assert not criteria & {"clean-accuracy-at-chance", "labels-renumbered", "one-class-answered"}


def test_a_finding_quotes_the_board_and_advises_what_the_attack_and_the_defense_can_take(toy: Toy) -> None:
    """A stochastic defense is attacked with other draws than it is scored with: the board's are quoted."""
    attacks = ["toy-sign:eps=0.2", "cheat-idle", "cheat-slow:eps=0.2,steps=1"]
    flags = ("--plugin", CHEATS, "--threats", "adaptive", "--score-draws", 3, "--eot", 10)
    _, results = toy(*flags, attacks=attacks, defenses=["toy-noise:sigma=0.2"])
    cells = {cell["short"]["attack"]: cell for cell in results["cells"]}
    weaker = [one for one in results["findings"] if one["criterion"] == "iterative-weaker-than-single-step"]
    assert len(weaker) == 2
    for finding in weaker:
        (place,) = finding["cells"]
        assert f"leaves {results['cells'][place]['robust_accuracy']:.1%} (toy-noise" in finding["message"]
        assert f"toy-sign:eps=0.2 leaves {cells['toy-sign:eps=0.2']['robust_accuracy']:.1%}" in finding["message"]
        assert "with eot set to 20" in finding["advice"]
        has_steps = results["cells"][place]["attack"].startswith("cheat-slow")
        assert ("give it more steps" in finding["advice"]) == has_steps
        assert "restarts" not in finding["advice"]


def test_numbers_that_are_on_no_board_are_said_to_be(toy: Toy) -> None:
    attacks = ["toy-sign:eps=0.2", "cheat-idle"]
    _, results = toy("--plugin", CHEATS, attacks=attacks, defenses=["toy-dim", "toy-flip"])
    (message,) = [one["message"] for one in results["findings"] if one["criterion"].startswith("iterative")]
    assert "(the undefended model, which has no row on the board)" in message
    _, results = toy("--plugin", CHEATS, attacks=attacks, defenses=["toy-dim", "toy-keep"])
    (message,) = [one["message"] for one in results["findings"] if one["criterion"].startswith("iterative")]
    assert "(toy-keep, oblivious)" in message


def test_no_slope_is_found_whatever_the_other_attacks_of_the_row_achieve(found: Callable[..., set[str]]) -> None:
    attacks = ["cheat-idle:eps=1", "toy-minimal", "cheat-luck:eps=1", "cheat-medley:eps=1"]
    assert "zero-gradients" in found(models=["cheat-rounded"], attacks=attacks)


def test_probabilities_fail_the_cells_and_the_message_says_what_to_leave_out(toy: Toy) -> None:
    called, results = toy("--plugin", CHEATS, models=["cheat-softmax"])
    assert called.code == 1
    assert {cell["status"] for cell in results["cells"]} == {"error"}
    assert "model 'cheat-softmax' returned probabilities" in called.out
    assert "leave the softmax out" in called.out


def test_a_finding_marks_its_cells_and_says_what_to_do(toy: Toy) -> None:
    called, results = toy("--plugin", CHEATS, attacks=["toy-sign:eps=0.2", "cheat-idle"], defenses=["toy-keep"])
    cells = {cell["attack"].split(":")[0]: cell for cell in results["cells"]}
    assert cells["toy-sign"]["warnings"] == []
    (warning,) = cells["cheat-idle"]["warnings"]
    assert warning.startswith("iterative-weaker-than-single-step: cheat-idle leaves 90.0% (toy-keep, oblivious)")
    assert "use autoattack" in warning
    assert "! 90.0" in called.out
    assert "a sanity check questions this number" in called.out
    assert called.code == 0


def test_defenses_that_no_adaptive_attack_has_tried_carry_a_mark(toy: Toy) -> None:
    called, results = toy(defenses=["toy-keep", "toy-dim"])
    marks = {row["defense"].split(":")[0]: row["marks"] for row in results["leaderboards"][0]["rows"]}
    assert marks == {"toy-keep": [], "toy-dim": ["not adaptively attacked"]}
    assert "toy-dim †" in called.out
    assert "† not adaptively attacked" in called.out
    called, results = toy(*BOTH, defenses=["toy-keep", "toy-dim"])
    assert not any(row["marks"] for row in results["leaderboards"][0]["rows"])
    assert "†" not in called.out


def test_audit_prints_what_the_run_found_and_its_exit_code_tells(
    toy: Toy, call: Callable[..., Called], tmp_path: Path
) -> None:
    _, results = toy("--plugin", CHEATS, "--check-convergence", attacks=["cheat-slow"], defenses=["toy-keep"])
    assert [finding["criterion"] for finding in results["findings"]] == ["not-converged"]
    called = call("audit", "--store", tmp_path / "store")
    assert called.code == 1
    assert "not-converged" in called.out
    assert "cell: toy toy-linear cheat-slow oblivious toy-keep" in called.out
    assert "next: give it more steps" in called.out
    assert "1 finding in 1 cell" in called.out
    told = json.loads(call("audit", "latest", "--store", tmp_path / "store", "--format", "json").out)
    assert told[0]["cells"][0]["attack"] == results["cells"][0]["attack"]
    assert told[0]["message"] == results["findings"][0]["message"]


def test_audit_of_a_run_in_order_ends_well(toy: Toy, call: Callable[..., Called], tmp_path: Path) -> None:
    toy(defenses=["toy-keep", "toy-dim"])
    called = call("audit", "--store", tmp_path / "store")
    assert called.code == 0
    assert "no findings in 2 cells" in called.out
    assert "not adaptively attacked\n  toy-dim on toy, toy-linear" in called.out
    assert "not checked: unbounded-above-chance" in called.out
    assert "not checked: not-converged" in called.out


def test_audit_leaves_out_what_the_run_has_looked_for(toy: Toy, call: Callable[..., Called], tmp_path: Path) -> None:
    attacks = ["cheat-slow:eps=0.4,steps=20", "cheat-slow:eps=1,steps=20"]
    _, results = toy("--plugin", CHEATS, "--check-convergence", attacks=attacks, defenses=["toy-keep"])
    assert results["findings"] == results["not_looked_for"] == []
    assert "not checked" not in call("audit", "--store", tmp_path / "store").out


def test_audit_names_the_runs_there_are(toy: Toy, call: Callable[..., Called], tmp_path: Path) -> None:
    assert call("audit", "--store", tmp_path / "store").code == 2
    _, results = toy()
    called = call("audit", "zzz", "--store", tmp_path / "store")
    assert called.code == 2
    assert results["run"]["run"] in called.error_line()


def test_the_check_of_convergence_leaves_the_board_as_it_is(toy: Toy) -> None:
    _, plain = toy("--plugin", CHEATS, attacks=["cheat-slow", "toy-sign"])
    called, checked = toy("--plugin", CHEATS, "--check-convergence", attacks=["cheat-slow", "toy-sign"])
    assert "with twice the steps, to check convergence: 2 more cells to do" in called.err
    assert len(checked["cells"]) == len(plain["cells"]) == 4
    assert checked["run"]["run"] == plain["run"]["run"]
    assert [c["robust_accuracy"] for c in checked["cells"]] == [c["robust_accuracy"] for c in plain["cells"]]
