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
    """Runs the command.

    Raises:
        UsageError: The name is that of something else, or the folder exists and is not empty.
    """
    package = NewPackage(options.folder, options.kind)
    package.check_not_installed()
    _check_unregistered(package)
    for file in package.write():
        print(printable(str(file)))
    folder = printable(str(options.folder))
    print(f"\nThe package is complete: 'pip install -e {folder}' registers the {package.component} {package.name!r},")
    if package.kind == "study":
        print(f"and 'advbench reproduce {package.name}' runs it. Now edit its suite and {package.module}.py.")
    else:
        print(f"and 'advbench check {package.name}' checks that it keeps its contract. Now edit {package.module}.py.")
    return 0


def _check_unregistered(package: NewPackage) -> None:
    """Checks that no other plugin has the name, and that none registers a component, suite or study of this name.

    Raises:
        UsageError: One does: of two that register one name, advbench uses neither.
    """
    from advbench.discovery.entry_points import named_files
    from advbench.discovery.loading import discover
    from advbench.discovery.studies import core_suites
    from advbench.errors import UsageError
    from advbench.scaffold import OTHER_NAME, same_distribution
    from advbench.session.opening import CORE

    label, name = f"{package.distribution}: {package.name!r} is the name of another", package.name
    if package.kind == "study" and name in core_suites():
        raise UsageError(f"{label} suite; {OTHER_NAME}")
    kinds = {"suites": "suite", "commands": "study"} if package.kind == "study" else {package.kinds: package.component}
    for plugin in discover(CORE, [file for file in named_files() if file.is_file()]).plugins:
        if same_distribution(plugin.distribution, package.distribution):
            continue
        taken = [
            kinds[kind] for kind, other in plugin.components + plugin.contributions if kind in kinds and other == name
        ]
        if taken or plugin.name == name:
            raise UsageError(f"{label} {(*taken, 'plugin')[0]}; {OTHER_NAME}")
