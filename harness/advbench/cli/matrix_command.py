"""``advbench matrix``: every combination of attacks and defenses, then the leaderboard."""

from __future__ import annotations

import argparse
from typing import TextIO

from advbench.cli.flags import (
    add_check_convergence,
    add_data_dir,
    add_export,
    add_format,
    add_how_to_run,
    add_plugin_flags,
    add_reference,
    add_rows,
    add_samples,
    add_seeds,
    add_store,
    add_threats,
    add_verbosity,
)
from advbench.cli.interruption import resumable
from advbench.cli.parser import suggest
from advbench.process.gc_tuning import gc_paused
from advbench.session.options import CHECKS, RunOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    what = parser.add_argument_group("what to evaluate (default: the suite 'quickstart')")
    what.add_argument(
        "--suite",
        metavar="NAME|FILE",
        help="a suite of 'advbench list suites', or a TOML file; other flags replace parts of it",
    )
    what.add_argument(
        "--name",
        type=CHECKS["name"],
        metavar="TEXT",
        help="name of the run in tables and reports (default: the suite's)",
    )
    what.add_argument("--datasets", nargs="+", metavar="SPEC", help="such as mnist-5k ('advbench list' shows all)")
    what.add_argument("--models", nargs="+", metavar="SPEC", help="such as mnist-cnn")
    what.add_argument(
        "--attacks", nargs="+", metavar="SPEC", help="such as fgsm:eps=8/255, or 'pgd:eps={0.1,0.2}' for two values"
    )
    what.add_argument(
        "--defenses", nargs="+", metavar="SPEC", help="such as none, jpeg:quality=50, or jpeg+tvm for a chain of two"
    )
    threats = what.add_argument(
        "--threats", nargs="+", metavar="NAME", help="what the attacker knows: oblivious, adaptive, transfer"
    )
    suggest(threats, "oblivious", "adaptive", "transfer")
    add_threats(what)
    add_samples(what)
    add_seeds(what)
    add_check_convergence(what)
    add_how_to_run(parser.add_argument_group("how to run"))
    where = parser.add_argument_group("files")
    add_export(where)
    add_rows(where)
    add_reference(where)
    add_format(where)
    add_store(where)
    add_data_dir(where)
    add_plugin_flags(parser.add_argument_group("plugins"))
    add_verbosity(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command; if it is interrupted, shows how to resume."""

    def body(stdout: TextIO) -> int:
        with gc_paused():
            from advbench.session.run import run_matrix

        return run_matrix(RunOptions.of(vars(options)), stdout)

    return resumable(options, body)
