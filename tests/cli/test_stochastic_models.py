"""Models whose logits are random: drawn for the score and for attacks, with and without a defense."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

pytestmark = pytest.mark.slow

NOISY = Path(__file__).parents[1] / "stochastic_plugin.py"

Run = Callable[..., tuple[Called, dict[str, Any]]]


@pytest.fixture
def run(toy: Run) -> Run:
    """Runs the noisy model, by default undefended and behind a stochastic and a deterministic defense."""

    def make(*flags: object, **axes: Any) -> tuple[Called, dict[str, Any]]:
        given = {"models": ["noisy"], "defenses": ["toy-keep", "toy-dim", "toy-noise"], **axes}
        return toy("--plugin", NOISY, *flags, **given)

    return make


def without_times(cell: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in cell.items() if "seconds" not in name}


def test_it_is_drawn_for_the_score_and_by_every_attacker(run: Run) -> None:
    called, results = run("--threats", "oblivious", "adaptive", "--eot", 5, "--score-draws", 4)
    assert called.code == 0, called.err
    assert len(results["cells"]) == 6
    for cell in results["cells"]:
        assert cell["stochastic"]
        assert cell["robust_accuracy_draws"]["n"] == 4
        one, mean, every = (cell["protocols"][name]["robust_accuracy"] for name in ("one", "mean", "any"))
        assert every < mean == pytest.approx(cell["robust_accuracy"])
        assert every <= one
        assert cell["protocols"]["any"]["clean_accuracy"] < cell["clean_accuracy"] < 1
        assert cell["queries"]["forwards"] == 5 * cell["n"]  # one step, with as many draws
    assert called.out.count("stochastic models: 5 draws for each gradient") == 1
    assert called.out.count("stochastic defenses and models: 5 draws for each gradient") == 1
    assert "± is the standard deviation over draws." in called.out


def test_draws_are_independent_of_batches_and_of_processes(run: Run) -> None:
    axes = {"attacks": ["toy-sign:jitter=true"], "defenses": ["toy-keep", "toy-noise"]}
    flags = ("--threats", "oblivious", "adaptive", "--eot", 3, "--score-draws", 3)
    _, expected = run(*flags, **axes)
    for number, more in enumerate((("--batch-size", 1), ("--batch-size", 7), ("--jobs", 2))):
        _, results = run(*flags, *more, store=f"store{number}", **axes)
        assert list(map(without_times, results["cells"])) == list(map(without_times, expected["cells"]))


def test_a_deterministic_model_of_the_run_is_not_drawn(run: Run) -> None:
    flags = ("--threats", "oblivious", "--eot", 3, "--score-draws", 3)
    _, results = run(*flags, models=["noisy", "toy-linear"], defenses=["toy-keep"])
    noisy, linear = results["cells"]
    assert (noisy["stochastic"], noisy["queries"]["forwards"]) == (True, 3 * 40)
    assert (linear["stochastic"], linear["queries"]["forwards"]) == (False, 40)
    assert linear["robust_accuracy_draws"] is None
    called, alone = run(*flags, models=["toy-linear"], defenses=["toy-keep"], store="other")
    assert without_times(alone["cells"][0]) == without_times(linear)
    assert "--eot changes nothing here" in called.err
    assert "--score-draws changes nothing here" in called.err


def test_without_noise_it_is_the_deterministic_model(run: Run) -> None:
    _, results = run("--eot", 2, models=["noisy:noise=0", "toy-linear"], defenses=["toy-keep", "toy-dim"])
    noisy, linear = results["cells"][:2], results["cells"][2:]
    for one, other in zip(noisy, linear, strict=True):
        for measure in ("clean_accuracy", "robust_accuracy", "median_linf"):
            assert one[measure] == other[measure]


def test_a_stochastic_surrogate_is_drawn_and_the_model_not(run: Run) -> None:
    flags = ("--threats", "transfer", "--surrogate", "noisy", "--eot", 4)
    _, results = run(*flags, models=["toy-linear"], defenses=["toy-keep"])
    (cell,) = results["cells"]
    assert cell["queries"]["forwards"] == 4 * 40
    assert not cell["stochastic"]


@pytest.mark.parametrize(
    ("how", "eot", "expected"),
    [
        ("rng", 3, set()),
        ("rng", 1, {"randomised-without-eot"}),
        ("nothing", 3, {"fixed-randomness"}),
        ("torch", 3, {"not-repeatable"}),
        ("batch", 3, {"batch-dependent"}),
    ],
)
def test_the_audit_finds_what_is_wrong_with_its_randomness(run: Run, how: str, eot: int, expected: set[str]) -> None:
    _, results = run("--eot", eot, models=[f"noisy:how={how}"], defenses=["toy-keep"])
    assert {finding["criterion"] for finding in results["findings"]} == expected
    for finding in results["findings"]:
        if finding["criterion"] in ("fixed-randomness", "randomised-without-eot"):
            assert finding["message"].startswith(f"noisy{'' if how == 'rng' else f':how={how}'} is ")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            "none",
            "model 'noisy' is declared stochastic, but its network takes (images); it must take (images, rng)",
        ),
        (
            "undeclared",
            "model 'noisy' has a network that takes (images, rng); let it take the images alone or, if it takes",
        ),
    ],
)
def test_a_network_that_takes_other_arguments_is_an_error(run: Run, how: str, message: str) -> None:
    called, results = run(models=[f"noisy:how={how}"], defenses=["toy-keep"])
    assert called.code != 0
    assert message in results["cells"][0]["error"]


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ("rng", ""),
        ("nothing", "stochastic declared correctly"),
        ("torch", "same random numbers, same logits"),
        ("batch", "independent of its batch"),
        ("none", "load returns a network"),
        ("undeclared", "load returns a network"),
    ],
)
def test_check_fails_a_model_that_breaks_a_rule(
    call: Callable[..., Called], how: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADVBENCH_DISABLE_PLUGINS", "*")
    called = call("check", f"noisy:how={how}", "--plugin", NOISY)
    assert (called.code == 0) == (not rule)
    assert rule in called.out + called.err
