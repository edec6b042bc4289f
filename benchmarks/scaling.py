"""Measures the cost of doubling a matrix, of reading a stored one, and of starting the command line."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command import Command, advbench
from benchmarks.tables import Table

__all__ = ["measure"]

HEADERS = ("what", "seconds", "CPU seconds", "to the first", "peak MiB")
ATTACKS = ("fgsm", "pgd")
DEFENSES = ("none", "jpeg", "gaussian")


def measure(arguments: argparse.Namespace) -> Table:
    """Runs ``advbench`` in separate processes, each with a cold store unless noted."""
    base_limit = max(1, min(5 * arguments.limit, 5000) // 2)
    rows: list[list[object]] = []
    first = _matrix(arguments, base_limit)
    start = advbench(["matrix", "--datasets", "mnist-5k", "--models", "mnist-cnn", "--dry-run", "--quiet"]).cpu_seconds
    for description, command in (
        (f"{base_limit} images, {len(ATTACKS)} attacks, {len(DEFENSES)} defenses", first),
        ("twice the images", _matrix(arguments, 2 * base_limit)),
        ("twice the attacks", _matrix(arguments, base_limit, attacks=[*ATTACKS, "fgsm:eps=0.2", "pgd:eps=0.2"])),
        (
            "twice the defenses",
            _matrix(arguments, base_limit, defenses=[*DEFENSES, "jpeg:quality=50", "gaussian:sigma=1", "tvm"]),
        ),
    ):
        ratio = (command.cpu_seconds - start) / (first.cpu_seconds - start)
        rows.append([description, command.seconds, command.cpu_seconds, ratio, command.peak_mib])
    with tempfile.TemporaryDirectory() as store:
        sweep = [
            "matrix", "--datasets", "mnist-20", "--models", "mnist-cnn", "--store", store,
            "--attacks", *(f"fgsm:eps={i / 1000}" for i in range(1, 51)),
            "--defenses", *(f"gaussian:sigma={i / 10}" for i in range(1, 21)),
        ]  # fmt: skip
        for description in ("1,000 cells of 20 images", "the same again, from the store"):
            command = advbench(sweep)
            rows.append([description, command.seconds, command.cpu_seconds, None, command.peak_mib])
    help_text = min((advbench(["--help"]) for _ in range(3)), key=lambda command: command.seconds)
    rows.append(["advbench --help", help_text.seconds, help_text.cpu_seconds, None, help_text.peak_mib])
    note = "Each row is a separate process. The ratios are of CPU seconds, minus those of a dry run without a forecast."
    return Table("Scaling", note, HEADERS, rows)


def _matrix(
    arguments: argparse.Namespace, limit: int, attacks: Sequence[str] = ATTACKS, defenses: Sequence[str] = DEFENSES
) -> Command:
    with tempfile.TemporaryDirectory() as folder:
        return advbench(
            [
                "matrix", "--datasets", "mnist-5k", "--models", "mnist-cnn", "--limit", limit, "--store", Path(folder),
                "--attacks", *attacks, "--defenses", *defenses, "--device", arguments.device,
            ]
        )  # fmt: skip
