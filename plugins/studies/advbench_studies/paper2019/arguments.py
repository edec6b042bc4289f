"""The flags of ``advbench reproduce paper``. Imports no torch."""

from __future__ import annotations

import argparse
from pathlib import Path

from advbench.api import UsageError

__all__ = ["BY_DATASET", "DATASETS", "add_arguments", "check_datasets"]

DATASETS = ("mnist", "cifar10")
BY_DATASET = ("--limit", "--cw-steps", "--adaptive-limit")
"""Flags with a number for all datasets, or for single ones."""


def add_arguments(parser: argparse._ActionsContainer) -> None:
    """Declares the flags."""
    parser.add_argument(
        "--datasets",
        nargs="+",
        choices=DATASETS,
        metavar="mnist|cifar10",
        help="run only these datasets (default: both); claims that need the other get the verdict 'not run'",
    )
    parser.add_argument(
        "--limit",
        nargs="+",
        action="extend",
        type=_by_dataset,
        default=[],
        metavar="[DATASET=]N",
        help="use N random samples instead of 1000, of each dataset or of the named one",
    )
    parser.add_argument(
        "--cw-steps",
        nargs="+",
        action="extend",
        type=_by_dataset,
        default=[],
        metavar="[DATASET=]N",
        help="let CW take N steps for each constant instead of 1000, on each dataset or on the named one",
    )
    parser.add_argument(
        "--adaptive-limit",
        nargs="+",
        action="extend",
        type=_by_dataset,
        default=[],
        metavar="[DATASET=]N",
        help="use N samples for the adaptive attacks, which take longest, instead of 200 of MNIST and 100 of CIFAR-10 "
        "(at most as many as --limit, if that is given)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="folder with weights that do not come with advbench, for the claims that need them; the report lists the "
        "files that are missing, and the commands that train them",
    )


def check_datasets(options: argparse.Namespace) -> None:
    """Checks that the numbers for single datasets are for datasets that are run.

    Raises:
        UsageError: One of them is not.
    """
    run = options.datasets or DATASETS
    for flag in BY_DATASET:
        for dataset, number in getattr(options, flag.removeprefix("--").replace("-", "_")):
            if dataset is not None and dataset not in run:
                raise UsageError(
                    f"{flag} {dataset}={number}: {dataset!r} is not run; this command runs {', '.join(run)}"
                )


def _by_dataset(text: str) -> tuple[str | None, int]:
    """A positive number, for all datasets (None) or for the one before it."""
    dataset, separator, number = text.rpartition("=")
    if separator and not dataset:
        raise argparse.ArgumentTypeError(f"{text}: the name of the dataset is missing")
    if not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{number}: must be a whole number of at least 1")
    return dataset or None, int(number)
