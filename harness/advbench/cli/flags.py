"""Flags that several commands share. Imports neither torch nor rich."""

from __future__ import annotations

import argparse
from pathlib import Path

from advbench.cli.parser import suggest
from advbench.session.options import CHECKS, FORMATS, PRECISIONS, RERUNS, ROWS, LoadOptions, RunOptions, default_store

__all__ = [
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
]


def add_plugin_flags(parser: argparse._ActionsContainer) -> None:
    """Adds ``--plugin``, ``--no-plugin`` and ``--strict-plugins``."""
    parser.add_argument(
        "--plugin",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a Python file to load as a plugin; repeatable (also: environment variable ADVBENCH_PLUGINS)",
    )
    parser.add_argument(
        "--no-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="name of a plugin or distribution that is not loaded; repeatable (also: environment variable "
        "ADVBENCH_DISABLE_PLUGINS)",
    )
    parser.add_argument("--strict-plugins", action="store_true", help="stop (exit code 4) if a plugin has a problem")


def add_samples(parser: argparse._ActionsContainer) -> None:
    """Adds the flags that choose the samples of a run and of its fits."""
    parser.add_argument(
        "--limit", type=CHECKS["limit"], metavar="N", help="use a random subset of N samples of each dataset"
    )
    parser.add_argument("--seed", type=CHECKS["seed"], metavar="N", help="seed of the subset and of all randomness")
    parser.add_argument(
        "--fit-samples",
        type=CHECKS["fit_samples"],
        metavar="N",
        help="number of images to which attacks such as patches are fitted: samples of the dataset that the run does "
        "not attack (default: the suite's, else 1000)",
    )
    parser.add_argument(
        "--fit-data", metavar="SPEC", help="dataset to which attacks are fitted instead, such as mnist:split=train"
    )


def add_seeds(parser: argparse._ActionsContainer) -> None:
    """Adds ``--seeds``."""
    parser.add_argument(
        "--seeds", nargs="+", type=CHECKS["seeds"], metavar="N", help="repeat with each seed; show means and spread"
    )


def add_threats(parser: argparse._ActionsContainer) -> None:
    """Adds the flags that set how threats are evaluated."""
    parser.add_argument(
        "--eot",
        type=CHECKS["eot"],
        metavar="N",
        help="number of draws of a stochastic defense or model for each gradient of an attack that knows it; a draw "
        "applies it once (default: the suite's; 10 if it sets none, or if flags replace axes without --suite)",
    )
    parser.add_argument(
        "--score-draws",
        type=CHECKS["score_draws"],
        metavar="N",
        help="number of draws of a stochastic defense or model for the score (default: the suite's, else 1)",
    )
    parser.add_argument(
        "--certify",
        action="store_const",
        const=True,
        help="also compute the certificates of models and defenses that give them, such as smoothing, which may take "
        "long; boards then show certified accuracies",
    )
    parser.add_argument(
        "--radii",
        nargs="+",
        type=CHECKS["radii"],
        metavar="R",
        help="radii at which certified accuracies are shown, besides the eps of attacks in the same norm",
    )
    parser.add_argument(
        "--max-queries",
        type=CHECKS["max_queries"],
        metavar="N",
        help="limit of an attack's queries about a sample: images (times the defense's draws), and gradients; "
        "a sample that needs more keeps its best result so far (default: the suite's, else no limit)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        metavar="|".join(PRECISIONS),
        help="arithmetic of the network during the attack; scores are always float32 (default: the suite's, else "
        "float32)",
    )
    parser.add_argument(
        "--surrogate",
        nargs="+",
        metavar="SPEC",
        help="the model on which images are crafted under the threat 'transfer'; with several, each attack is shown "
        "with each of them",
    )


def add_check_convergence(parser: argparse._ActionsContainer) -> None:
    """Adds ``--check-convergence``."""
    parser.add_argument(
        "--check-convergence",
        action="store_true",
        help="also run every attack with twice the steps, and report which attacks become stronger",
    )


def add_how_to_run(parser: argparse._ActionsContainer) -> None:
    """Adds the flags that set where and how cells are computed and do not change their results."""
    add_device(parser)
    parser.add_argument(
        "--batch-size",
        type=CHECKS["batch_size"],
        default=RunOptions.batch_size,
        metavar="N",
        help="number of images in a batch",
    )
    parser.add_argument(
        "--jobs", type=CHECKS["jobs"], default=RunOptions.jobs, metavar="N", help="number of tasks that run in parallel"
    )
    executor = parser.add_argument(
        "--executor", metavar="NAME", help="what runs the tasks: serial, processes (for --jobs above 1), or dask"
    )
    suggest(executor, "serial", "processes", "dask")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="the Dask scheduler whose workers run the tasks")
    parser.add_argument(
        "--cell-timeout",
        type=CHECKS["cell_timeout"],
        metavar="SECONDS",
        help="time limit for each step of a cell, such as an attack on one batch; a cell that exceeds it is shown as "
        "ERR; the steps run in worker processes",
    )
    parser.add_argument(
        "--memory",
        type=CHECKS["memory"],
        metavar="GIB",
        help="limit for the memory of each process, on a CPU; tasks that exceed it run again with smaller batches "
        "(default: nine tenths of the free memory, shared by the workers)",
    )
    parser.add_argument(
        "--rerun",
        choices=RERUNS,
        default=RunOptions.rerun,
        help="which stored cells to run again",
    )
    parser.add_argument(
        "--fail-fast",
        action="store_true",
        help="stop at the first cell that fails; tasks that are running finish first",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would run and how long it would take, and exit"
    )


def add_export(parser: argparse._ActionsContainer) -> None:
    """Adds ``--export``."""
    parser.add_argument(
        "--export",
        action="append",
        default=[],
        metavar="FILE",
        help="write the results; the suffix sets the format: .md, .html, .tex, .csv or .json; repeatable",
    )


def add_format(parser: argparse._ActionsContainer) -> None:
    """Adds ``--format``."""
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default=RunOptions.format,
        help="how to print the leaderboard: as a table for terminals, as plain columns for pipes, or as Markdown",
    )


def add_rows(parser: argparse._ActionsContainer) -> None:
    """Adds ``--rows``; without it, the suite of the run decides."""
    parser.add_argument(
        "--rows",
        choices=ROWS,
        metavar="|".join(ROWS),
        help="the rows of leaderboards: the defenses of one model, or all models, each with its "
        "defenses (default: the suite's, else defense)",
    )


def add_reference(parser: argparse._ActionsContainer) -> None:
    """Adds ``--reference``."""
    parser.add_argument(
        "--reference",
        metavar="MODEL",
        help="a model of the run; leaderboards of corruptions show the mean corruption error (mCE) relative to it",
    )


def add_run(parser: argparse._ActionsContainer) -> None:
    """Adds the argument that names a stored run."""
    run = parser.add_argument(
        "run",
        nargs="?",
        default="latest",
        metavar="RUN",
        help="a run: its id, the first characters of its id, its name, 'latest', or 'latest~1' for the run before the "
        "latest",
    )
    suggest(run, "latest")


def add_device(parser: argparse._ActionsContainer) -> None:
    """Adds ``--device``."""
    flag = parser.add_argument(
        "--device",
        type=CHECKS["device"],
        default=LoadOptions.device,
        metavar="auto|cpu|cuda[:N]|mps",
        help="where to compute; auto: a CUDA device if there is one; mps: the GPU of a Mac, which has no float64",
    )
    suggest(flag, "auto", "cpu", "cuda", "mps")


def add_store(parser: argparse._ActionsContainer) -> None:
    """Adds ``--store``."""
    parser.add_argument(
        "--store",
        type=CHECKS["store"],
        default=default_store(),
        metavar="DIR",
        help="folder in which results are stored",
    )


def add_data_dir(parser: argparse._ActionsContainer) -> None:
    """Adds ``--data-dir``."""
    parser.add_argument(
        "--data-dir", type=CHECKS["data_dir"], metavar="DIR", help="folder with your copies of datasets, searched first"
    )


def add_verbosity(parser: argparse._ActionsContainer) -> None:
    """Adds ``-q`` and ``-v``."""
    parser.add_argument(
        "-q",
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=-1,
        default=0,
        help="print only errors and the results",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        dest="verbosity",
        action="store_const",
        const=1,
        help="print more messages, and a line for each cell",
    )
