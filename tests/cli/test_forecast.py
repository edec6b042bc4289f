"""--dry-run and runs say how long they will take, also on a model that an attack breaks at once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY, Called

from advbench.api import process_taint
from advbench.evaluation.plan.tasks import CraftTask
from advbench.evaluation.run.estimate import Estimate, estimate
from advbench.evaluation.work.timing import pilot
from advbench.evaluation.work.timing.pilot import Pilot, run_pilot
from advbench.evaluation.work.workspace import Environment
from advbench.session.forecasts import announce_total
from advbench.session.options import RunOptions
from advbench.session.run import MatrixRun
from advbench.session.session import Session
from advbench.session.suites import suite_of

pytestmark = pytest.mark.slow

Call = Callable[..., Called]

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}

STOPPED = {
    "apgd": "apgd:steps=1000",
    "apgd-t": "apgd-t:steps=1000",
    "autoattack": "autoattack",
    "cw": "cw",
    "cw, Foolbox": "cw:engine=foolbox",
    "ddn": "ddn:steps=10000",
    "deepfool": "deepfool:steps=10000",
    "deepfool, Foolbox": "deepfool:engine=foolbox,steps=10000",
    "fab-t": "fab-t:steps=10000",
    "fgsm": "fgsm:search=minimal",
    "fmn": "fmn:steps=10000",
    "pgd": "pgd:steps=100000",
    "pgd, Foolbox": "pgd:engine=foolbox,steps=100000",
    "rays": "rays:queries=1000000",
    "square": "square:queries=100000",
}


def seconds(text: str) -> float:
    """The forecast in a message."""
    if "take under 1 s" in text:
        return 0.5
    found = re.search(r"take (?:about|very roughly) ([\d.]+) (s|min|h)\b", text)
    assert found, text
    return float(found[1]) * UNITS[found[2]]


def test_the_forecast_of_a_fragile_model_is_near_the_time_that_it_takes(call: Call, tmp_path: Path) -> None:
    matrix = ("matrix", "--datasets", "mnist-5k", "--models", "mnist-cnn", "--defenses", "none", "--limit", 300)
    matrix = (*matrix, "--threats", "oblivious", "--store", tmp_path / "store", "--attacks", "autoattack")
    dry = call(*matrix, "--dry-run")
    assert dry.code == 0, dry.err
    assert not (tmp_path / "store").exists()
    began = time.monotonic()
    assert call(*matrix).code == 0
    took = time.monotonic() - began
    # Attacks that no image leaves would take some ten minutes. Other processes may slow the one or the other.
    assert took / 4 <= seconds(dry.err) <= took * 4


def test_a_dry_run_counts_stored_cells_as_done(call: Call, tmp_path: Path) -> None:
    matrix = ("matrix", "--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--plugin", TOY)
    matrix = (*matrix, "--defenses", "toy-keep", "--store", tmp_path / "store")
    assert "this will take under 1 s" in call(*matrix, "--dry-run").err
    assert call(*matrix).code == 0
    stored = call(*matrix, "--dry-run").err
    assert "will take" not in stored
    assert "come from the store" in stored


def test_a_dry_run_of_several_seeds_adds_up(call: Call, tmp_path: Path) -> None:
    matrix = ("matrix", "--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--plugin", TOY)
    dry = call(*matrix, "--defenses", "toy-keep", "--store", tmp_path / "store", "--seeds", 1, 2, "--dry-run")
    assert dry.err.count("this will take") == 2
    assert "all 2 runs will take under 1 s" in dry.err


def slow_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every pass take 10 seconds for each image, as far as forecasts know."""
    monkeypatch.setattr(
        "advbench.evaluation.work.timing.components._Timer._seconds",
        lambda _, timing: 10.0 if timing[0] == "pass" else 0.0,
    )
    monkeypatch.setattr("advbench.evaluation.run.estimate._PILOT_SECONDS", 0.0)


def test_what_two_runs_share_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow_passes(monkeypatch)
    axes = {"datasets": ("toy",), "models": ("toy-linear",), "attacks": ("toy-sign",), "defenses": ("toy-keep",)}
    session = Session(RunOptions.of({}, **axes, plugin=(TOY,), store=tmp_path / "store"))
    suite = suite_of(session.suite, session.options, session.registry)
    runs = [MatrixRun(session, suite, "") for _ in range(2)]
    announce_total(session, runs)
    runs[0].announce()
    runs[0].results()
    lines = capsys.readouterr().err.splitlines()
    total, own = (next(line for line in lines if line.startswith(start)) for start in ("all 2 runs will", "this will"))
    assert seconds(total) == seconds(own) > 1


def test_runs_of_several_seeds_report_the_forecast_of_all_first_and_measure_once(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def counted(*given: Any) -> Estimate:
        measured.append(given)
        return estimate(*given)

    for module in ("run", "forecasts"):
        monkeypatch.setattr(f"advbench.session.{module}.estimate", counted)
    slow_passes(monkeypatch)
    matrix = ("matrix", "--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign", "--plugin", TOY)
    matrix = (*matrix, "--defenses", "toy-keep", "--store", tmp_path / "store")
    assert call(*matrix, "--seed", 1).code == 0
    measured.clear()
    dry = call(*matrix, "--seeds", 1, 2, "--dry-run")
    total = next(line for line in dry.err.splitlines() if line.startswith("all 2 runs will take about "))
    called = call(*matrix, "--seeds", 1, 2)
    assert called.code == 0
    lines = called.err.splitlines()
    assert lines.index(total) < lines.index("seed 1")
    assert seconds(total) == seconds(next(line for line in lines if line.startswith("this will take")))
    assert len(measured) == 2, "once for the dry run, once for the runs"
    again = call(*matrix, "--seeds", 1, 2)
    assert "all 2 runs will take under 1 s" in again.err
    assert len(measured) == 2
    assert "all 2 runs" not in call(*matrix, "--seeds", 1, 2, "-q").err


def test_a_dry_run_downloads_nothing(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADVBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("ADVBENCH_DATA_DIR", raising=False)
    dry = call("matrix", "--datasets", "mnist", "--limit", 5, "--store", tmp_path / "store", "--dry-run")
    assert dry.code == 0
    assert "no forecast: " in dry.err
    both = call(
        "matrix", "--datasets", "mnist", "--limit", 5, "--store", tmp_path / "store", "--dry-run", "--seeds", 0, 1
    )
    assert "no forecast for any of the 2 runs" in both.err
    assert not list((tmp_path / "cache").rglob("*.gz"))


@pytest.mark.parametrize("attack", STOPPED.values(), ids=STOPPED)
def test_an_attack_that_is_stopped_leaves_the_process_as_it_was(
    attack: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="advbench.estimate")
    counted = run_pilot(environment(tmp_path), Pilot(task(attack), 1e6, seconds=0.1))
    assert not process_taint()
    assert not caplog.text
    assert counted.passes > 10


def test_a_pilot_tells_a_fragile_model_from_a_robust_one(tmp_path: Path) -> None:
    fragile, robust = (
        run_pilot(environment(tmp_path), Pilot(task("autoattack", model), 4000, seconds=0.5)).passes
        for model in ("mnist-cnn", "mnist-cnn-robust")
    )
    assert fragile < 1000 < 2000 < robust


def test_an_attack_that_fails_counts_as_it_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> float:
        raise SystemExit(3)

    monkeypatch.setattr(pilot, "_run", fail)
    assert run_pilot(environment(tmp_path), Pilot(task("apgd"), 100, seconds=0.1)) == (100, 1)


def environment(folder: Path) -> Environment:
    return Session(RunOptions(store=folder / "store", verbosity=-1)).environment


def task(attack: str, model: str = "mnist-cnn") -> CraftTask:
    ids = tuple(range(16))
    return CraftTask({"ids": "few"}, ids, "mnist-5k", model, attack, "oblivious", "", seed=0)
