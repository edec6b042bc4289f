"""What tests of several processes share: matrices in processes of their own, and what their stores hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import TOY

from advbench.store import Store

__all__ = ["ENVIRONMENT", "bits", "command", "environment", "leftovers", "run"]

TIMED = ("seconds", "craft_seconds")
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
TOY_AXES = (
    "--datasets", "toy:size=60", "--models", "toy-linear",
    "--attacks", "toy-sign:eps={0.1,0.2},delay=0.05", "toy-minimal",
    "--defenses", "toy-keep", "toy-dim", "toy-flip", "toy-noise", "--threats", "oblivious", "adaptive",
    "--batch-size", "20", "--plugin", str(TOY),
)  # fmt: skip
"""Three attacks, four defenses, two threats; each attack in three parts."""


def command(store: Path, *more: object, axes: Sequence[object] = TOY_AXES) -> list[str]:
    return [sys.executable, "-m", "advbench", "matrix", *map(str, (*axes, "--store", store, *more))]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **ENVIRONMENT, "ADVBENCH_DISABLE_PLUGINS": "*", **more}


def run(words: Sequence[str], **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; given the variables of `programs`, as a copy of a process that has imported torch."""
    if "PATH" in more and words[0] == sys.executable:
        words = ["python", *words[1:]]
    return subprocess.run(
        words,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def bits(store: Path) -> dict[str, dict[str, Any]]:
    """Every cell of a store, with all that is told of each sample, but for how long it took."""
    opened = Store(store)
    found = {}
    for path in (store / "cells").glob("*/*.json"):
        record = opened.read_record("cells", path.stem)
        assert record is not None, f"{path} is damaged"
        found[path.stem] = {name: value for name, value in record.items() if name not in TIMED}
    return found


def leftovers(store: Path) -> list[str]:
    """Files that no finished run needs: temporary ones, and parts of chunks."""
    files = [path for path in store.rglob("*") if path.is_file()]
    return [path.name for path in files if path.suffix == ".tmp" or path.name.count(".") > 1]
