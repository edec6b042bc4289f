"""Flags that several commands share. Imports neither torch nor rich."""

from __future__ import annotations

import argparse
from pathlib import Path

import platformdirs

from advbench.cli.parser import at_least, device, existing_folder, folder, gibibytes, seconds, suggest

__all__ = [
    "PRECISIONS",
    "add_check_convergence",
    "add_data_dir",
    "add_device",
    "add_export",
    "add_format",
    "add_how_to_run",
    "add_plugin_flags",
    "add_run",
    "add_samples",
    "add_seeds",
    "add_store",
    "add_threats",
    "add_verbosity",
    "cache_folder",
]


PRECISIONS = ("float32", "bf16")
"""Those of :mod:`advbench.specs`, which loads torch."""


def cache_folder() -> Path:
    """The user's cache folder, in which the store and downloaded datasets lie by default."""
    return Path(platformdirs.user_cache_dir("advbench"))


def add_plugin_flags(parser: argparse._ActionsContainer) -> None:
    """Adds ``--plugin``, ``--no-plugin`` and ``--strict-plugins``."""
    parser.add_argument(
        "--plugin",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a Python file to load as a plugin; repeatable (also the environment's ADVBENCH_PLUGINS)",
    )
    parser.add_argument(
        "--no-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="a plugin or distribution not to load; repeatable (also the environment's ADVBENCH_DISABLE_PLUGINS)",
    )
    parser.add_argument("--strict-plugins", action="store_true", help="stop (exit code 4) if a plugin has a problem")


def add_samples(parser: argparse._ActionsContainer) -> None:
    """Adds ``--limit`` and ``--seed``."""
    parser.add_argument("--limit", type=at_least(1), metavar="N", help="a random subset of N samples of each dataset")
    parser.add_argument("--seed", type=at_least(0), metavar="N", help="seed of the subset and of all randomness")


def add_seeds(parser: argparse._ActionsContainer) -> None:
    """Adds ``--seeds``."""
    parser.add_argument(
        "--seeds", nargs="+", type=at_least(0), metavar="N", help="repeat with each seed; show means and their spread"
    )


def add_threats(parser: argparse._ActionsContainer) -> None:
    """Adds the flags that say how threats are carried out."""
    parser.add_argument(
        "--eot",
        type=at_least(1),
        metavar="N",
        help="draws of a stochastic defense for each gradient of an adaptive attack (default: the suite's, else 10)",
    )
    parser.add_argument(
        "--score-draws",
        type=at_least(1),
        metavar="N",
        help="draws of a stochastic defense for the score (default: the suite's, else 1)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        metavar="|".join(PRECISIONS),
        help="the network's arithmetic while it is attacked; scores are always float32 (default: the suite's, else "
        "float32)",
    )
    parser.add_argument("--surrogate", metavar="SPEC", help="the model that images are crafted on under 'transfer'")


def add_check_convergence(parser: argparse._ActionsContainer) -> None:
    """Adds ``--check-convergence``."""
    parser.add_argument(
        "--check-convergence",
        action="store_true",
        help="run every attack with twice the steps, too, and say which ones that makes stronger",
    )


def add_how_to_run(parser: argparse._ActionsContainer) -> None:
    """Adds the flags that change where and how cells are computed, and none of their results."""
    add_device(parser)
    parser.add_argument("--batch-size", type=at_least(1), default=250, metavar="N", help="images at once")
    parser.add_argument("--jobs", type=at_least(1), default=1, metavar="N", help="tasks at a time")
    executor = parser.add_argument(
        "--executor", metavar="NAME", help="what runs the tasks: serial, processes (for --jobs above 1), or dask"
    )
    suggest(executor, "serial", "processes", "dask")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="the Dask scheduler whose workers run the tasks")
    parser.add_argument(
        "--cell-timeout",
        type=seconds,
        metavar="SECONDS",
        help="a cell is ERR if a step of it, such as an attack on a batch of images, takes longer; uses workers",
    )
    parser.add_argument(
        "--memory",
        type=gibibytes,
        metavar="GIB",
        help="memory that each process may take, on a CPU: what needs more runs with fewer images at once (default: "
        "nine tenths of what is free, shared by the workers)",
    )
    parser.add_argument(
        "--rerun",
        choices=("none", "failed", "all"),
        default="failed",
        help="which stored cells to run again: none of them, the failed ones, all",
    )
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first cell that fails")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and stop")


def add_device(parser: argparse._ActionsContainer) -> None:
    """Adds ``--device``."""
    flag = parser.add_argument(
        "--device", type=device, default="auto", metavar="auto|cpu|cuda:N", help="where to compute"
    )
    suggest(flag, "auto", "cpu", "cuda")


def add_export(parser: argparse._ActionsContainer) -> None:
    """Adds ``--export``."""
    parser.add_argument(
        "--export",
        action="append",
        default=[],
        metavar="FILE",
        help="write the results; the suffix picks .md, .html, .tex, .csv or .json; repeatable",
    )


def add_format(parser: argparse._ActionsContainer) -> None:
    """Adds ``--format``."""
    parser.add_argument(
        "--format",
        choices=("table", "plain", "markdown"),
        default="table",
        help="how to print the leaderboard: for a terminal, as plain columns for pipes, or as Markdown",
    )


def add_run(parser: argparse._ActionsContainer) -> None:
    """Adds the argument that names a run."""
    run = parser.add_argument(
        "run",
        nargs="?",
        default="latest",
        metavar="RUN",
        help="a run's id, its beginning, 'latest', or 'latest~1' for the one before",
    )
    suggest(run, "latest")


def add_store(parser: argparse._ActionsContainer) -> None:
    """Adds ``--store``."""
    parser.add_argument(
        "--store", type=folder, default=cache_folder() / "store", metavar="DIR", help="folder in which results are kept"
    )


def add_data_dir(parser: argparse._ActionsContainer) -> None:
    """Adds ``--data-dir``."""
    parser.add_argument(
        "--data-dir", type=existing_folder, metavar="DIR", help="your own folder of datasets, looked at first"
    )


def add_verbosity(parser: argparse._ActionsContainer) -> None:
    """Adds ``-q`` and ``-v``."""
    parser.add_argument(
        "-q", "--quiet", dest="verbosity", action="store_const", const=-1, default=0, help="errors and the board alone"
    )
    parser.add_argument("-v", "--verbose", dest="verbosity", action="store_const", const=1, help="more messages")
