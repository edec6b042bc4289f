"""``advbench new-plugin``: creates a small complete package to start from."""

from __future__ import annotations

import argparse
from pathlib import Path

from advbench.printable import printable
from advbench.scaffold import KINDS, NewPackage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder, such as advbench-my-defense")
    parser.add_argument("--kind", choices=KINDS, default="defense", help="what is in the package")


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    package = NewPackage(options.folder, options.kind)
    for file in package.write():
        print(printable(str(file)))
    folder = printable(str(options.folder))
    print(f"\nThe package is complete: 'pip install -e {folder}' registers the {package.component} {package.name!r},")
    if package.kind == "study":
        print(f"and 'advbench reproduce {package.name}' runs it. Now edit its suite and {package.module}.py.")
    else:
        print(f"and 'advbench check {package.name}' checks that it keeps its contract. Now edit {package.module}.py.")
    return 0
