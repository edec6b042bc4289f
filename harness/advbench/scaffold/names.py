"""Names of new packages: which are valid, and which would break what is installed. Imports no plugin."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import re
import sys
from importlib import metadata
from pathlib import Path

from advbench.errors import UsageError

__all__ = ["OTHER_NAME", "check_class", "check_distribution", "check_not_installed", "same_distribution"]

OTHER_NAME = "choose another name"
"""What messages say that users may do."""

_GROUPS = ("advbench", "advbench.studies")
"""The entry-point groups of plugins."""


def check_distribution(name: str) -> None:
    """Checks that a name can be that of a distribution, and a module's.

    Raises:
        UsageError: It cannot.
    """
    label = f"{name}: its name is that of the package"
    if not re.match(r"[A-Za-z]", name):
        raise UsageError(f"{label}, which begins with a letter from a to z; {OTHER_NAME}, such as advbench-my-defense")
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise UsageError(f"{label}, which has only letters from a to z, digits, '-', '_' and '.'; {OTHER_NAME}")
    if not re.fullmatch(r".*[A-Za-z0-9]", name):
        raise UsageError(f"{label}, which ends with a letter or a digit; {OTHER_NAME}")


def check_class(distribution: str, name: str, source: str) -> None:
    """Checks that the class of a component hides nothing that its module uses.

    Args:
        distribution: The name of the distribution, for messages.
        name: The name of the class.
        source: The module.

    Raises:
        UsageError: It is a keyword, or that of something that the module imports or defines.
    """
    label = f"{distribution}: the component's class would be called {name!r}"
    if keyword.iskeyword(name):
        raise UsageError(f"{label}, a keyword of Python; {OTHER_NAME}")
    nodes = ast.parse(source).body
    imported = [alias.name for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names]
    defined = [node.name for node in nodes if isinstance(node, ast.ClassDef)]
    if [*imported, *defined].count(name) > 1:
        raise UsageError(f"{label}, as another class that its module uses; {OTHER_NAME}, such as advbench-my-defense")


def check_not_installed(folder: Path, distribution: str, module: str) -> None:
    """Checks that a package takes the place of nothing that is installed, except of itself.

    Args:
        folder: The folder of the package.
        distribution: Its name for pip.
        module: Its name for import.

    Raises:
        UsageError: Its module has the name of a keyword or of a module that can be imported, or its distribution that
            of an installed one.
    """
    label = f"{distribution}: {module!r} is"
    if keyword.iskeyword(module):
        raise UsageError(f"{label} a keyword of Python, so no module can have this name; {OTHER_NAME}")
    if module in sys.stdlib_module_names:
        raise UsageError(f"{label} a module of Python, which the plugin would hide; {OTHER_NAME}")
    if _is_plugin(distribution, module):
        return
    if _is_importable(folder, module):
        raise UsageError(f"{label} an installed module, which the plugin would replace or hide; {OTHER_NAME}")
    try:
        installed = metadata.distribution(distribution).metadata["Name"]
    except metadata.PackageNotFoundError:
        return
    raise UsageError(
        f"{distribution}: {installed!r} is an installed package, which the plugin would replace; {OTHER_NAME}"
    )


def same_distribution(one: str, other: str) -> bool:
    """Whether pip takes two names for that of one distribution."""
    plain = [re.sub(r"[-_.]+", "-", name).lower() for name in (one, other)]
    return plain[0] == plain[1]


def _is_plugin(distribution: str, module: str) -> bool:
    """Whether this plugin is installed already: a distribution of this name that registers the module."""
    try:
        points = metadata.distribution(distribution).entry_points
    except metadata.PackageNotFoundError:
        return False
    return any(point.group in _GROUPS and point.value == module for point in points)


def _is_importable(folder: Path, module: str) -> bool:
    """Whether there is such a module, other than files in the working folder or beside the package's folder."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a module without a spec that is imported already
        return True
    if spec is None:
        return False
    places = spec.submodule_search_locations or [spec.origin or ""]
    beside = {Path.cwd().resolve(), folder.resolve().parent}
    return not {Path(place).resolve().parent for place in places} <= beside
