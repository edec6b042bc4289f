"""A run that is killed or interrupted goes on where it stopped, in real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TOY

pytestmark = pytest.mark.slow(minutes=1)

ROOT = Path(__file__).parents[2]
CELLS = 6


def begin(folder: Path, store: str, delay: float, *flags: str) -> subprocess.Popen[str]:
    """Starts a slow matrix of two chunks an attack in a process of its own."""
    words = [
        *("--datasets", "toy:size=700", "--models", "toy-linear"),
        *("--attacks", f"toy-sign:eps={{0.05,0.1,0.2}},delay={delay}"),
        *("--defenses", "toy-keep", "toy-noise", "--plugin", str(TOY)),
        *("--store", str(folder / store), "--export", str(folder / f"{store}.json"), "--batch-size", "500"),
        *flags,
    ]
    environment = os.environ | {
        "ADVBENCH_DISABLE_PLUGINS": "*",
        "TOY_LOG": str(folder / f"{store}.log"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "advbench", "matrix", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts it in the test's own folder."""
    return partial(begin, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The cells of a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    whole = begin(folder, "whole", 0.3)
    _, err = whole.communicate(timeout=120)
    assert whole.returncode == 0, err
    return cells(folder / "whole.json")


def wait_for_cells(process: subprocess.Popen[str], count: int) -> list[str]:
    """Reads stderr until so many cells have ended; returns their lines."""
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        if line.startswith("["):
            lines.append(line)
        if len(lines) == count:
            return lines
    raise AssertionError("the run ended before so many cells had")


def cells(path: Path) -> list[dict[str, Any]]:
    timed = ("seconds", "craft_seconds")
    return [{k: v for k, v in cell.items() if k not in timed} for cell in json.loads(path.read_text())["cells"]]


def modified(store: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (store / "cells").rglob("*.json")}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "interrupt"])
def test_a_stopped_run_ends_as_an_uninterrupted_one_and_repeats_no_cell(
    start: Callable[..., subprocess.Popen[str]],
    undisturbed: list[dict[str, Any]],
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    stopped = start("stopped", 0.3)
    wait_for_cells(stopped, 3)
    stopped.send_signal(number)
    _, err = stopped.communicate(timeout=60)
    assert stopped.returncode == (-9 if number == signal.SIGKILL else 130)
    kept = modified(tmp_path / "stopped")
    assert 3 <= len(kept) < CELLS
    if number == signal.SIGINT:
        assert f"interrupted; {len(kept)} of {CELLS} cells are finished and stored. Resume with: advbench matrix" in err
        assert "Traceback" not in err

    again = start("stopped", 0.3)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 0
    assert f"{len(kept)} in the store, {CELLS - len(kept)} to do" in err
    assert kept.items() <= modified(tmp_path / "stopped").items(), "a finished cell was written again"
    assert cells(tmp_path / "stopped.json") == undisturbed
    runs = Counter((tmp_path / "stopped.log").read_text().splitlines())
    # Two chunks an attack; only the chunk that was under way when the run was stopped may have begun twice.
    assert sum(runs.values()) <= 3 * 2 + 1
    assert not list((tmp_path / "stopped").rglob(".probe*"))


def test_an_interrupted_run_of_several_workers_does_not_wait_for_what_they_are_doing(
    start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start("workers", 60, "--jobs", "2")
    log = tmp_path / "workers.log"
    deadline = time.monotonic() + 60
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert log.exists(), "no attack has begun"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "0 of 6 cells are finished and stored" in err
    assert "Traceback" not in err


def test_a_background_run_of_several_workers_goes_on_when_its_terminal_is_interrupted(tmp_path: Path) -> None:
    words = ["--datasets", "toy", "--models", "toy-linear", "--attacks", "toy-sign:delay=1", "--defenses", "toy-keep"]
    words += ["--plugin", str(TOY), "--jobs", "2", "--store", str(tmp_path / "store")]
    log = tmp_path / "log"
    # As in a shell without job control, which starts background jobs with SIGINT ignored in its own process group.
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "advbench", "matrix", *words],
        env=os.environ | {"ADVBENCH_DISABLE_PLUGINS": "*", "TOY_LOG": str(log)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not log.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "ERR" not in out
    assert len(log.read_text().splitlines()) == 1, "a worker ended and its task was begun again"


def test_tests_that_run_in_the_background_can_be_interrupted() -> None:
    told = "import signal, tests.conftest; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    words = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", told]
    assert subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout == "True\n"
