"""Runs on one store share the work, and whatever dies costs what it was at."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

from tests.distributed.helpers import bits, command, environment, leftovers, run
from tests.distributed.soak import soak


def test_two_runs_at_once_end_right_and_attack_once(tmp_path: Path) -> None:
    assert run(command(tmp_path / "whole"), TOY_LOG=str(tmp_path / "alone")).returncode == 0
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


def test_kills_at_random_moments_cost_what_was_under_way(tmp_path: Path) -> None:
    counts = soak(tmp_path, kills=4, seed=3)
    assert counts["drivers"] + counts["workers"] == 4
