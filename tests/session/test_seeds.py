"""``advbench matrix --seeds``: the same matrix several times, told by its mean and spread."""

from __future__ import annotations

import csv
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Called

from advbench.analysis.seeds import mean_curve
from advbench.results import read_run

pytestmark = pytest.mark.slow

CHEATS = Path(__file__).parents[1] / "cheating_plugin.py"

Toy = Callable[..., tuple[Called, dict[str, Any]]]

AXES: dict[str, Any] = {"attacks": ["toy-sign:eps={0.1,0.2},jitter=true"], "defenses": ["toy-keep", "toy-noise"]}


def test_means_and_spreads_are_those_of_the_seeds_run_by_themselves(toy: Toy) -> None:
    alone = [toy("--limit", 20, "--seed", seed, **AXES)[1] for seed in (3, 4, 5)]
    called, together = toy("--limit", 20, "--seeds", 3, 4, 5, **AXES)
    assert called.code == 0
    assert "seed 5" in called.err
    assert called.err.count("come from the store") == 3
    for place, cell in enumerate(together["cells"]):
        values = [one["cells"][place]["robust_accuracy"] for one in alone]
        assert cell["robust_accuracy_seeds"]["values"] == values
        assert cell["robust_accuracy"] == pytest.approx(statistics.fmean(values))
        assert cell["robust_accuracy_seeds"]["std"] == pytest.approx(statistics.stdev(values))
        low, high = cell["robust_accuracy_ci95"]
        assert low <= cell["robust_accuracy"] <= high
    assert together["run"]["seeds"] == {str(one["run"]["seed"]): one["run"]["run"] for one in alone}
    for row in together["leaderboards"][0]["rows"]:
        worst = [
            next(other for other in one["leaderboards"][0]["rows"] if other["defense"] == row["defense"])["worst_case"]
            for one in alone
        ]
        assert row["worst_case"]["accuracy"] == pytest.approx(statistics.fmean(case["accuracy"] for case in worst))


def test_the_board_shows_mean_and_spread_and_the_command_the_seeds(toy: Toy) -> None:
    called, results = toy("--limit", 20, "--seeds", 0, 1, **AXES)
    cell = results["cells"][0]
    shown = f"{100 * cell['robust_accuracy']:.1f} ± {100 * cell['robust_accuracy_seeds']['std']:.1f}"
    assert shown in called.out
    assert "± is the standard deviation over seeds." in called.out
    assert "--seeds 0 1" in results["run"]["command"]


def test_a_stored_command_is_shown_with_all_its_seeds(toy: Toy, call: Callable[..., Called], tmp_path: Path) -> None:
    called, results = toy("--limit", 20, "--seeds", 0, 1, "--name", "twice", **AXES)
    clean = results["leaderboards"][0]["rows"][1]["clean_accuracy_seeds"]
    assert f"{100 * clean['mean']:.1f} ± {100 * clean['std']:.1f}" in called.out
    target = tmp_path / "again.json"
    for run in ("latest", "twice"):
        again = call("leaderboard", run, "--store", tmp_path / "store", "--export", target)
        assert again.out == called.out
        assert "several runs" not in again.err
        assert json.loads(target.read_text()) == results
    report = call("report", "latest", "--store", tmp_path / "store", "--samples", 0, "--output", tmp_path / "page.html")
    assert report.code == 0
    assert "means over the seeds 0, 1" in (tmp_path / "page.html").read_text()
    assert read_run("latest", tmp_path / "store")["run"]["seeds"] == results["run"]["seeds"]
    # By its id, a seed is shown alone; so is one whose command's other seeds have gone.
    last = results["run"]["seeds"]["1"]
    assert "seeds" not in read_run(last[:10], tmp_path / "store")["run"]
    assert call("cache", "rm", results["run"]["seeds"]["0"], "--store", tmp_path / "store").code == 0
    assert read_run("twice", tmp_path / "store")["run"]["run"] == last
    toy("--limit", 20, "--seed", 1, "--name", "twice", **AXES)
    assert "±" not in call("leaderboard", "latest", "--store", tmp_path / "store").out.replace("± is", "")


def test_a_name_shows_its_own_command_after_another_with_fewer_seeds(
    toy: Toy, call: Callable[..., Called], tmp_path: Path
) -> None:
    three = toy("--limit", 20, "--seeds", 0, 1, 2, "--name", "three", **AXES)[1]
    two = toy("--limit", 20, "--seeds", 0, 1, "--name", "two", **AXES)[1]
    for name, results in (("three", three), ("two", two)):
        shown = read_run(name, tmp_path / "store")["run"]
        assert (shown["name"], shown["command"], shown["seeds"]) == (
            name,
            results["run"]["command"],
            results["run"]["seeds"],
        )


def test_one_seed_has_no_spread(toy: Toy) -> None:
    called, results = toy("--seeds", 2, **AXES)
    assert "robust_accuracy_seeds" not in results["cells"][0]
    assert "±" not in called.out
    assert results["run"]["seed"] == 2


def test_a_cell_that_fails_with_any_seed_has_failed(toy: Toy) -> None:
    called, results = toy("--seeds", 0, 1, defenses=["toy-keep", "toy-rogue-defense"])
    assert called.code == 1
    assert [cell["status"] for cell in results["cells"]] == ["ok", "error"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "1", "1"], "--seeds: 1 is given twice; remove one"),
        (["--seeds", "1", "--seed", "2"], "--seed and --seeds: give only one of them"),
        (["--seeds", "x"], "--seeds: x: must be a whole number of at least 0"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(toy: Toy, flags: list[str], message: str) -> None:
    called, _ = toy(*flags)
    assert called.code == 2
    assert re.search(re.escape(message), called.error_line())


def test_medians_seconds_curves_and_success_rates_are_means_too(toy: Toy) -> None:
    axes: dict[str, Any] = {"attacks": ["toy-minimal", "toy-sign:eps=0.3,jitter=true"], "defenses": ["toy-keep"]}
    alone = [toy("--limit", 20, "--seed", seed, **axes)[1]["cells"] for seed in (3, 4)]
    called, together = toy("--limit", 20, "--seeds", 3, 4, **axes)
    for place, cell in enumerate(together["cells"]):
        for name in ("median_l2", "median_linf", "seconds", "craft_seconds", "attack_success_rate"):
            values = [one[place][name] for one in alone]
            assert cell[f"{name}_seeds"]["values"] == values
            assert cell[name] == pytest.approx(statistics.fmean(values))
    assert alone[0][0]["median_l2"] != alone[1][0]["median_l2"]
    assert "Accuracies and medians are means over the seeds 3, 4." in called.out
    assert "seeds 3, 4, cpu" in called.out


def test_the_mean_of_curves_is_that_of_their_accuracies_at_every_eps() -> None:
    curves = [
        {"norm": "l2", "eps": [0.0, 1.0, 3.0], "accuracy": [1.0, 0.5, 0.0]},
        {"norm": "l2", "eps": [0.0, 2.0], "accuracy": [0.8, 0.2]},
    ]
    mean = mean_curve(curves)
    assert mean is not None
    assert mean["eps"] == [0.0, 1.0, 2.0, 3.0]
    assert mean["accuracy"] == pytest.approx([0.9, 0.65, 0.35, 0.1])
    many = [
        {"norm": "l2", "eps": [i / 100 + s for i in range(101)], "accuracy": [0.5] * 101} for s in (0, 0.001, 0.002)
    ]
    thinned = mean_curve([{**curve, "eps": [0.0, *curve["eps"][1:]]} for curve in many])
    assert thinned is not None
    assert len(thinned["eps"]) == 101
    assert thinned["eps"][-1] == pytest.approx(1.002)


def test_every_format_says_what_is_a_mean_and_what_is_of_the_first_seed(toy: Toy, tmp_path: Path) -> None:
    files = {suffix: tmp_path / f"board.{suffix}" for suffix in ("html", "md", "tex", "csv")}
    exports = [word for file in files.values() for word in ("--export", file)]
    axes: dict[str, Any] = {
        "attacks": ["toy-minimal", "toy-sign"],
        "defenses": ["toy-keep", "toy-dim:factor={0.3,0.6}"],
    }
    _, results = toy("--limit", 20, "--seeds", 5, 7, *exports, **axes)
    text = {suffix: file.read_text() for suffix, file in files.items()}
    for suffix in ("html", "md", "tex"):
        assert "Accuracies and medians are means over the seeds 5" in text[suffix]
    assert text["html"].count("Means over the seeds 5, 7.") >= 2  # below the charts
    page = json.loads(re.search('id="data">(.*?)</script>', text["html"], re.DOTALL)[1])  # type: ignore[index]
    for cell, shown in zip(results["cells"], page["cells"], strict=True):
        facts = dict(shown["facts"])
        assert shown["seed"] == "5"
        assert {"before", "after", "samples"} <= shown.keys()
        assert facts["seeds"] == "5, 7; the numbers are means over them"
        assert facts["by seed"].count("%") == 2
        assert "(seed 5)" in facts.get("network passes", "(seed 5)")  # an attack may ask nothing
        if cell["median_l2"] is not None:
            assert facts["median L2"] == f"{cell['median_l2']:.4g}"
    script = text["html"]
    for heading in ("Samples${of}", "Predictions of the defended model${of}", "fooled the attacked classifier${of}"):
        assert heading in script
    rows = list(csv.DictReader(text["csv"].splitlines()))
    assert {row["seeds"] for row in rows} == {"5 7"}
    for row, cell in zip(rows, results["cells"], strict=True):
        assert float(row["robust_accuracy_std"]) == pytest.approx(cell["robust_accuracy_seeds"]["std"])


def test_findings_and_failures_of_some_seeds_name_them(toy: Toy) -> None:
    flags = ("--plugin", CHEATS, "--limit", 20, "--seeds", 0, 1)
    _, results = toy(*flags, attacks=["toy-sign:eps=0.2", "cheat-idle"], defenses=["toy-keep"])
    told = [one["message"] for one in results["findings"]]
    assert all(re.match(r"seed [01]: cheat-idle leaves", message) for message in told)
    (cell,) = [cell for cell in results["cells"] if cell["short"]["attack"] == "cheat-idle"]
    assert cell["warnings"][0].startswith("iterative-weaker-than-single-step: seed ")
    _, results = toy(*flags, attacks=["toy-sign:eps=8"], defenses=["toy-keep"])
    assert [one["message"].partition(" ")[0] for one in results["findings"]] == ["toy-sign:eps=8"]  # of all seeds alike


def test_each_seeds_run_says_its_own_command(toy: Toy, call: Callable[..., Called], tmp_path: Path) -> None:
    _, results = toy("--seeds", 5, 7, "--check-convergence", **AXES)
    shown = call("leaderboard", results["run"]["seeds"]["7"], "--store", tmp_path / "store").out
    assert "--seed 7 --check-convergence" in " ".join(shown.split())


def test_a_seed_without_results_leaves_an_upper_bound(tmp_path: Path, call: Callable[..., Called]) -> None:
    plugin, target = tmp_path / "fails.py", tmp_path / "results.json"
    plugin.write_text(
        "from dataclasses import dataclass\n"
        "from advbench.api import Defense, hookimpl\n"
        "@dataclass(frozen=True)\n"
        "class Fails(Defense):\n"
        "    'Fails with seed 1.'\n"
        "    name = 'fails'\n"
        "    stochastic = True\n"
        "    def apply(self, images, rng):\n"
        "        if rng.seed == 1: raise ValueError('on purpose')\n"
        "        return images\n"
        "@hookimpl\n"
        "def register_defenses(register): register(Fails)\n"
    )
    axes = (
        "--datasets",
        "mnist-20",
        "--models",
        "mnist-cnn",
        "--attacks",
        "fgsm:eps=0.2",
        "--defenses",
        "none",
        "fails",
    )
    called = call("matrix", "--plugin", plugin, *axes, "--limit", 10, "--seeds", 0, 1, "--export", target)
    assert called.code == 1
    rows = {row["defense"]: row["worst_case"] for row in json.loads(target.read_text())["leaderboards"][0]["rows"]}
    assert not rows["fails"]["complete"]
    assert rows["fails"]["accuracy"] == (rows["fails"]["seeds"]["values"][0] + 1) / 2 >= rows["none"]["accuracy"]


def test_the_seeds_of_a_command_count_as_one_run(toy: Toy, call: Callable[..., Called], tmp_path: Path) -> None:
    _, before = toy("--limit", 20, "--name", "before", defenses=["toy-keep", "toy-dim"])
    _, seeds = toy("--limit", 20, "--seeds", 0, 1, "--name", "seeds", **AXES)
    assert read_run("latest~1", tmp_path / "store")["run"]["run"] == before["run"]["run"]
    assert call("leaderboard", "latest~2", "--store", tmp_path / "store").code == 2
    compared = call("compare", "latest", "--defenses", "toy-keep", "toy-noise", "--store", tmp_path / "store")
    assert f"latest has 2 seeds; compared is the first, run {seeds['run']['seeds']['0']}" in compared.err
