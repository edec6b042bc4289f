"""No time goes into looking for garbage among what torch's import made: not while it runs, not when a process ends."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from advbench.executors.workers import ProcessPool
from advbench.process import gc_tuning

pytestmark = pytest.mark.slow

_WATCHED = """
import atexit, gc, json, sys

told = {}

def at_the_end():  # registered first, and so run last
    told.update(torch="torch" in sys.modules, still_looked_through=len(gc.get_objects()), enabled=gc.isenabled())
    with open(sys.argv[1], "w") as file:
        json.dump(told, file)

def count(phase, about):
    if phase == "start" and "torch" in sys.modules and "advbench.session.session" not in sys.modules:
        told["passes"] = told.get("passes", 0) + 1

atexit.register(at_the_end)
gc.callbacks.append(count)
from advbench.cli.main import main
main(sys.argv[2:])
"""


def test_no_pass_goes_over_what_the_imports_made(tmp_path: Path) -> None:
    told = watched(tmp_path, "matrix", "--datasets", "mnist-20", "--attacks", "fgsm", "--store", tmp_path / "store")
    assert told["torch"]
    assert told["enabled"], "what a matrix itself leaves behind is looked for"
    assert "passes" not in told
    assert told["still_looked_through"] < 1_000


def test_short_commands_end_without_a_pass_too(tmp_path: Path) -> None:
    told = watched(tmp_path, "list", "attacks")
    assert told["torch"]
    assert told["still_looked_through"] < 1_000


def test_workers_do_not_look_through_what_the_imports_made_either() -> None:
    with ProcessPool(1) as pool:
        pool.submit(torch.get_num_threads).result()  # imports torch
        assert pool.submit(gc.get_freeze_count).result() > 100_000
        assert pool.submit(gc.isenabled).result()
        assert pool.submit(gc.get_threshold).result()[0] == gc_tuning._THRESHOLD


def watched(folder: Path, *words: object) -> dict[str, Any]:
    """What a process that calls the command tells of its passes."""
    target = folder / "told.json"
    called = [sys.executable, "-c", _WATCHED, str(target), *map(str, words)]
    subprocess.run(called, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    told: dict[str, Any] = json.loads(target.read_text())
    return told
