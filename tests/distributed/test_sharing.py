"""Runs on one store share the work, and whatever dies costs what it was at."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from tests.distributed.helpers import bits, command, environment, leftovers, run
from tests.distributed.soak import soak

from advbench.evaluation.plan.tasks import JoinTask
from advbench.evaluation.work.execute import execute
from advbench.evaluation.work.workspace import Environment
from advbench.store import Store

pytestmark = pytest.mark.slow(minutes=1)


def test_two_runs_at_once_end_right_and_attack_once(tmp_path: Path, programs: Mapping[str, str]) -> None:
    assert run(command(tmp_path / "whole"), TOY_LOG=str(tmp_path / "alone"), **programs).returncode == 0
    log = tmp_path / "log"
    runs = [
        subprocess.Popen(
            command(tmp_path / "store", *more),
            env=environment(TOY_LOG=str(log)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for more in (["--jobs", "2"], [])
    ]
    for process in runs:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert bits(tmp_path / "store") == bits(tmp_path / "whole")
    assert leftovers(tmp_path / "store") == []
    alone, shared = (Counter(path.read_text().splitlines()) for path in (tmp_path / "alone", log))
    assert sum(alone.values()) > 10
    assert shared == alone, "an attack on a part was computed twice"


def test_parts_that_another_run_has_no_use_for_are_removed(tmp_path: Path, programs: Mapping[str, str]) -> None:
    """A run with smaller batches that is at its parts when another finishes the chunk."""
    assert run(command(tmp_path / "store"), **programs).returncode == 0
    store = Store(tmp_path / "store")
    key = next((tmp_path / "store" / "adversarial").glob("*/*")).stem
    stored = store.read_tensors(key)
    assert stored is not None
    key_inputs = material_of(store, key)
    store.write_tensors(key_inputs, {name: some[:7] for name, some in stored[0].items()}, stored[1], (0, 7))
    assert leftovers(tmp_path / "store")
    where = Environment(tmp_path / "store", tmp_path, None, "cpu", 7)
    assert not execute(where, JoinTask(key_inputs, ((0, 7), (7, 60)))).error
    assert leftovers(tmp_path / "store") == []


def material_of(store: Store, key: str) -> dict[str, Any]:
    """What the key of adversarial images is the digest of."""
    with safe_open(store.root / "adversarial" / key[:2] / f"{key}.safetensors", framework="pt") as file:
        key_inputs: dict[str, Any] = json.loads(file.metadata()["advbench"])["material"]
    return key_inputs


def test_kills_at_random_moments_cost_what_was_under_way(tmp_path: Path) -> None:
    counts = soak(tmp_path, kills=4, seed=3)
    assert counts["drivers"] == counts["workers"] == 2
