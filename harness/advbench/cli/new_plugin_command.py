"""``advbench new-plugin``: a small complete package to begin from."""

from __future__ import annotations

import argparse
from pathlib import Path

from advbench.scaffold import KINDS, NewPackage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder, such as advbench-my-defense")
    parser.add_argument("--kind", choices=KINDS, default="defense", help="what the package holds")


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    package = NewPackage(options.folder, options.kind)
    for file in package.write():
        print(file)
    print(f"\nIt is complete: 'pip install -e {options.folder}' registers the {package.kind} {package.name!r}, and")
    print(f"'advbench check {package.name}' holds it to its contract. Now make {package.module}.py yours.")
    return 0
