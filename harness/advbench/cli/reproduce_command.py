"""``advbench reproduce``: runs a paper's experiments and says which of its claims hold."""

from __future__ import annotations

import argparse
from typing import TextIO

from advbench.cli.flags import add_data_dir, add_how_to_run, add_plugin_flags, add_store, add_verbosity
from advbench.cli.interruption import resumable
from advbench.process.gc_tuning import gc_paused
from advbench.session.values import at_least

DATASETS = ("mnist", "cifar10")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    what = parser.add_argument_group("what to reproduce")
    what.add_argument("paper", choices=("paper",), metavar="paper", help="the paper that advbench grew from")
    what.add_argument(
        "--datasets",
        nargs="+",
        choices=DATASETS,
        metavar="mnist|cifar10",
        help="only these (without: both); claims that need the other are not run",
    )
    what.add_argument(
        "--limit",
        nargs="+",
        type=_by_dataset,
        default=[],
        metavar="[DATASET=]N",
        help="a random subset of N samples, of each dataset or of the one named, instead of 1000",
    )
    what.add_argument(
        "--cw-steps",
        nargs="+",
        type=_by_dataset,
        default=[],
        metavar="[DATASET=]N",
        help="steps of CW for each constant, on each dataset or on the one named, instead of 1000",
    )
    what.add_argument("--seed", type=at_least(0), metavar="N", help="seed of the subset and of all randomness")
    add_how_to_run(parser.add_argument_group("how to run"))
    where = parser.add_argument_group("files")
    where.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="write the report; the suffix picks .md or .json; repeatable",
    )
    add_store(where)
    add_data_dir(where)
    add_plugin_flags(parser.add_argument_group("plugins"))
    add_verbosity(parser)


def _by_dataset(text: str) -> tuple[str | None, int]:
    """A number, for every dataset (None) or for the one that stands before it."""
    dataset, separator, number = text.rpartition("=")
    if separator and dataset not in DATASETS:
        raise argparse.ArgumentTypeError(f"{text}: the dataset must be one of {', '.join(DATASETS)}")
    return dataset or None, at_least(1)(number)


def run(options: argparse.Namespace) -> int:
    """Runs the command; whenever it is interrupted, it says how to go on."""

    def body(stdout: TextIO) -> int:
        with gc_paused():
            from advbench.cli.reproduce_run import run_reproduction

        return run_reproduction(options, stdout)

    return resumable(options, body)
