"""Flags that several commands share. Imports neither torch nor rich."""

from __future__ import annotations

import argparse
from pathlib import Path

import platformdirs

from advbench.cli.parser import existing_folder

__all__ = ["add_data_dir", "add_plugin_flags", "add_store", "add_verbosity", "cache_folder"]


def cache_folder() -> Path:
    """The user's cache folder, in which the store and downloaded datasets lie by default."""
    return Path(platformdirs.user_cache_dir("advbench"))


def add_plugin_flags(parser: argparse._ActionsContainer) -> None:
    """Adds ``--plugin`` and ``--strict-plugins``."""
    parser.add_argument(
        "--plugin",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a Python file to load as a plugin; repeatable",
    )
    parser.add_argument("--strict-plugins", action="store_true", help="stop (exit code 4) if a plugin has a problem")


def add_store(parser: argparse._ActionsContainer) -> None:
    """Adds ``--store``."""
    parser.add_argument(
        "--store", type=Path, default=cache_folder() / "store", metavar="DIR", help="folder in which results are kept"
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
