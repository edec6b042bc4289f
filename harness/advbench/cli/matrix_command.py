"""``advbench matrix``: every combination of attacks and defenses, then the leaderboard."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from advbench.cli.flags import add_data_dir, add_plugin_flags, add_store, add_verbosity
from advbench.cli.parser import at_least, device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    what = parser.add_argument_group("what to evaluate (without any: the suite 'quickstart')")
    what.add_argument(
        "--suite", metavar="NAME|FILE", help="a shipped suite or a TOML file; other flags replace its parts"
    )
    what.add_argument("--datasets", nargs="+", metavar="SPEC", help="such as mnist-5k")
    what.add_argument("--models", nargs="+", metavar="SPEC", help="such as mnist-cnn")
    what.add_argument("--attacks", nargs="+", metavar="SPEC", help="such as fgsm:eps=8/255 or 'pgd:eps={0.1,0.2}'")
    what.add_argument("--defenses", nargs="+", metavar="SPEC", help="such as none, jpeg:quality=50 or a chain jpeg+tvm")
    what.add_argument("--threats", nargs="+", metavar="NAME", help="what the attacker knows: oblivious")
    what.add_argument("--limit", type=at_least(1), metavar="N", help="a random subset of N samples of each dataset")
    what.add_argument("--seed", type=at_least(0), metavar="N", help="seed of the subset and of all randomness")
    how = parser.add_argument_group("how to run")
    how.add_argument("--device", type=device, default="auto", metavar="auto|cpu|cuda:N", help="where to compute")
    how.add_argument("--batch-size", type=at_least(1), default=250, metavar="N", help="images at once")
    how.add_argument("--jobs", type=at_least(1), default=1, metavar="N", help="tasks at a time")
    how.add_argument("--executor", metavar="NAME", help="what runs the tasks: serial, or processes for --jobs above 1")
    how.add_argument(
        "--rerun",
        choices=("none", "failed", "all"),
        default="failed",
        help="which stored cells to run again: none of them, the failed ones, all",
    )
    how.add_argument("--fail-fast", action="store_true", help="stop at the first cell that fails")
    how.add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    where = parser.add_argument_group("files")
    where.add_argument(
        "--export",
        action="append",
        default=[],
        metavar="FILE",
        help="write the results; the suffix picks .md, .json or .csv; repeatable",
    )
    add_store(where)
    add_data_dir(where)
    add_plugin_flags(parser.add_argument_group("plugins"))
    add_verbosity(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command; whenever it is interrupted, it says how to go on."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        from advbench.cli.matrix_run import MatrixRun

        # What components print must not mix with the tables on stdout.
        stdout = sys.stdout
        with contextlib.redirect_stdout(sys.stderr):
            return MatrixRun(options, stdout).run()
    except KeyboardInterrupt as interruption:
        kept = str(interruption) or "nothing was lost"
        command = resuming_command(options.words)
        print(f"advbench matrix: interrupted; {kept}. Go on with: {command}", file=sys.stderr)
        return 130


def resuming_command(words: Sequence[str]) -> str:
    """The command as it was typed, but for ``--rerun all``, which would begin anew what is done."""
    kept = list(words)
    if "--rerun=all" in kept:
        kept.remove("--rerun=all")
    for place in range(len(kept) - 1):
        if kept[place : place + 2] == ["--rerun", "all"]:
            del kept[place : place + 2]
            break
    return shlex.join(["advbench", *kept])


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """What asks the process to end counts as Ctrl-C."""
    del number, frame
    raise KeyboardInterrupt
