"""Threats on the toy plugin: what is crafted on what, what is shared, what is drawn, what is shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

pytestmark = pytest.mark.slow

Toy = Callable[..., tuple[Called, dict[str, Any]]]

BOTH = ("oblivious", "adaptive")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with one line a run of an attack."""
    path = tmp_path / "attacks.log"
    path.touch()
    monkeypatch.setenv("TOY_LOG", str(path))
    return path


def runs(log: Path) -> int:
    return len(log.read_text().splitlines())


def accuracy(results: dict[str, Any], threat: str, defense: str) -> float:
    (cell,) = (
        cell for cell in results["cells"] if cell["threat"] == threat and cell["defense"].split(":")[0] == defense
    )
    assert cell["status"] == "ok", cell["error"]
    return float(cell["robust_accuracy"])


def test_an_adaptive_attack_is_crafted_anew_for_each_defense_but_the_undefended_model(toy: Toy, log: Path) -> None:
    called, results = toy("--threats", *BOTH, defenses=["toy-keep", "toy-dim", "toy-noise"])
    assert called.code == 0
    assert runs(log) == 3  # once oblivious, and once behind each of two defenses
    assert len(results["cells"]) == 6
    assert accuracy(results, "adaptive", "toy-keep") == accuracy(results, "oblivious", "toy-keep")


def test_the_undefended_model_is_the_same_whichever_threat_came_first(toy: Toy, log: Path) -> None:
    _, adaptive = toy("--threats", "adaptive", defenses=["toy-keep"])
    _, oblivious = toy(*["--threats", "oblivious"], defenses=["toy-keep"])
    assert runs(log) == 1
    assert accuracy(adaptive, "adaptive", "toy-keep") == accuracy(oblivious, "oblivious", "toy-keep")


def test_an_attacker_who_knows_the_defense_does_better(toy: Toy) -> None:
    _, results = toy("--threats", *BOTH, defenses=["toy-flip"])
    assert accuracy(results, "adaptive", "toy-flip") < accuracy(results, "oblivious", "toy-flip")


def test_one_board_shows_both_threats_and_the_worst_case_over_both(toy: Toy) -> None:
    called, results = toy("--threats", *BOTH, defenses=["toy-keep", "toy-flip"])
    (board,) = results["leaderboards"]
    assert board["threats"] == list(BOTH)
    row = next(row for row in board["rows"] if row["defense"] == "toy-flip")
    under = {threat: worst["accuracy"] for threat, worst in row["worst_case_under"].items()}
    assert under == {threat: accuracy(results, threat, "toy-flip") for threat in BOTH}
    assert row["worst_case"]["accuracy"] <= min(under.values())
    assert "toy · toy-linear · oblivious and adaptive · n = 40" in called.out
    assert "Threat adaptive:" in called.out


def test_draws_for_gradients_are_part_of_the_images_of_a_stochastic_defense_only(toy: Toy, log: Path) -> None:
    for eot in (1, 2, 2):
        toy(*["--threats", "adaptive", "--eot", eot], defenses=["toy-dim", "toy-noise"])
    assert runs(log) == 3


def test_several_draws_are_scored_by_their_mean_and_told_with_their_spread(toy: Toy) -> None:
    _, one = toy(defenses=["toy-noise"])
    called, many = toy(*["--score-draws", 7], defenses=["toy-noise", "toy-dim"])
    noise, dim = many["cells"]
    spread = noise["robust_accuracy_draws"]
    assert spread["n"] == 7
    assert spread["min"] < noise["robust_accuracy"] < spread["max"]
    assert spread["min"] <= one["cells"][0]["robust_accuracy"] <= spread["max"]
    assert spread["std"] > 0
    assert dim["robust_accuracy_draws"] is None
    assert noise["protocols"]["mean"]["robust_accuracy"] == pytest.approx(noise["robust_accuracy"])
    assert noise["protocols"]["one"]["robust_accuracy"] == one["cells"][0]["robust_accuracy"]
    assert noise["protocols"]["any"]["robust_accuracy"] <= spread["min"]
    assert dim["protocols"] is None
    row = next(row for row in many["leaderboards"][0]["rows"] if row["defense"].startswith("toy-noise"))
    assert row["worst_case"]["accuracy"] == pytest.approx(noise["robust_accuracy"])
    assert called.code == 0


def test_one_draw_more_is_another_result_and_the_images_are_the_same(toy: Toy, log: Path) -> None:
    keys = [toy(*["--score-draws", draws], defenses=["toy-noise"])[1]["run"]["run"] for draws in (1, 2)]
    assert keys[0] != keys[1]
    assert runs(log) == 1


def test_batch_size_and_jobs_change_no_adaptive_result(toy: Toy) -> None:
    flags = ["--threats", "adaptive", "--eot", 3]
    _, first = toy(*[*flags, "--batch-size", 40], defenses=["toy-noise"])
    _, second = toy(*[*flags, "--batch-size", 7, "--rerun", "all"], defenses=["toy-noise"])
    assert first["cells"][0]["robust_accuracy"] == second["cells"][0]["robust_accuracy"]
    assert first["cells"][0]["median_l2"] == second["cells"][0]["median_l2"]


def test_transfer_images_are_those_of_the_surrogate(toy: Toy, log: Path) -> None:
    flags = ["--threats", "transfer", "--surrogate", "toy-linear:scale=2"]
    called, results = toy(*flags, defenses=["toy-keep", "toy-dim"])
    assert called.code == 0
    assert {cell["threat"] for cell in results["cells"]} == {"transfer"}
    assert "surrogate toy-linear:scale=2" in " ".join(called.out.split())
    toy(defenses=["toy-keep"], models=["toy-linear:scale=2"])  # whose oblivious images these are
    assert runs(log) == 1


def test_the_surrogate_does_not_attack_itself(toy: Toy) -> None:
    flags = ["--threats", *BOTH, "transfer", "--surrogate", "toy-linear"]
    called, results = toy(*flags, defenses=["toy-keep"])
    states = {cell["threat"]: (cell["status"], cell["error"]) for cell in results["cells"]}
    assert states["oblivious"] == ("ok", None)
    assert states["transfer"][0] == "skipped"
    assert "the surrogate toy-linear is the model itself" in states["transfer"][1]
    assert results["leaderboards"][0]["threats"] == list(BOTH)
    assert called.code == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--threats", "transfer"], "threat 'transfer' needs the model that images are crafted on; give --surrogate"),
        (["--surrogate", "toy-linear"], "only the threat 'transfer' has one; add it to --threats"),
        (["--threats", "transfer", "--surrogate", "toy-liner"], "unknown model 'toy-liner'; did you mean"),
        (["--threats", "adaptve"], "unknown threat 'adaptve'; did you mean 'adaptive'?"),
        (["--eot", "0"], "--eot: 0: must be a whole number of at least 1"),
        (["--score-draws", "x"], "--score-draws: x: must be a whole number of at least 1"),
    ],
)
def test_threats_that_cannot_be_carried_out_are_refused(toy: Toy, flags: list[str], message: str) -> None:
    called, _ = toy(*flags)
    assert called.code == 2
    assert message in called.error_line()


def test_images_for_fits_without_a_fit_are_noted(toy: Toy) -> None:
    called, _ = toy("--fit-samples", 10, "--fit-data", "toy:size=50")
    assert called.code == 0
    assert "--fit-samples changes nothing here: nothing is fitted to data" in called.err
    assert "--fit-data changes nothing here: nothing is fitted to data" in called.err
    assert "changes nothing" not in toy()[0].err


def test_draws_without_a_stochastic_defense_are_noted(toy: Toy) -> None:
    called, _ = toy(*["--threats", "adaptive", "--eot", 4, "--score-draws", 2], defenses=["toy-dim"])
    assert called.code == 0
    nothing = "--eot changes nothing here: no model, and no defense under the threat 'adaptive', is stochastic"
    assert nothing in called.err
    assert "--score-draws changes nothing here: no model or defense is stochastic" in called.err
    called, _ = toy(*["--threats", "adaptive", "--eot", 4, "--score-draws", 2], defenses=["toy-noise"])
    assert "changes nothing" not in called.err


def test_a_stand_in_that_breaks_its_contract_fails_its_own_cells(toy: Toy) -> None:
    called, results = toy("--threats", *BOTH, defenses=["toy-flip", "toy-bad-stand-in"])
    assert called.code == 1
    states = {(cell["threat"], cell["defense"]): cell["status"] for cell in results["cells"]}
    assert states.pop(("adaptive", "toy-bad-stand-in")) == "error"
    assert set(states.values()) == {"ok"}
    assert re.search(r"the approximation of defense 'toy-bad-stand-in' returned shape \(\d+, 1, 2, 4\)", called.out)


def test_the_command_under_the_board_makes_the_same_results(toy: Toy) -> None:
    flags = ["--threats", *BOTH, "transfer", "--eot", 4, "--score-draws", 2, "--surrogate", "toy-linear:scale=2"]
    _, results = toy(*flags, defenses=["toy-noise"])
    for words in (
        "--threats oblivious adaptive transfer",
        "--eot 4",
        "--score-draws 2",
        "--surrogate toy-linear:scale=2",
    ):
        assert words in results["run"]["command"]
