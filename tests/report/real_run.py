"""A small real run with everything that reports show: threats, kinds, sweeps, a stochastic defense."""

from __future__ import annotations

import logging
from pathlib import Path

from advbench.cli.main import main

__all__ = ["run_for_reports"]

MATRIX = (
    "matrix", "--datasets", "mnist-20", "--models", "mnist-cnn", "--threats", "oblivious", "adaptive",
    "--attacks", "pgd:eps={0.05,0.1},steps=5", "deepfool", "--defenses", "none", "jpeg:quality={25,75}", "tvm",
    "--eot", 2,
)  # fmt: skip
SUFFIXES = (".json", ".csv", ".md", ".tex")


def run_for_reports(folder: Path) -> None:
    """Runs it with the store ``store`` in the folder, and exports ``board`` in every format."""
    exports = [word for suffix in SUFFIXES for word in ("--export", folder / f"board{suffix}")]
    code = main([str(word) for word in (*MATRIX, "--store", folder / "store", *exports, "-q")])
    logging.getLogger("advbench").handlers.clear()
    assert code == 0
