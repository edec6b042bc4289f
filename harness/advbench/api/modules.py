"""Importing the user's own Python files and objects by path."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from advbench.api.local_imports import LocalLoader, folder_of
from advbench.errors import UsageError, describe

__all__ = ["find_object", "import_file"]

_plugins: set[str] = set()
"""Names of the modules of plugin files, which stay as they are."""


def import_file(file: Path, *, plugin: bool = False) -> ModuleType:
    """Imports a single Python file under a name that no installed module has.

    The file is read again if it was imported before. Its imports are searched for in its folder first, as when Python
    runs the file. Modules of that folder that have changed since their import are imported again, too.

    Args:
        file: The file.
        plugin: Whether it is loaded as a plugin. If the same file is also imported for an object in it, such as a
            network, that gets a module of its own.

    Raises:
        UsageError: There is no such file, or its name does not end in ``.py``.
        Exception: Whatever the file raises.
    """
    file = Path(os.path.realpath(file))  # Path.resolve raises an exception for links that lead in a circle
    if not file.is_file() or file.suffix != ".py":
        what = "not a Python file (its name must end in .py)" if file.exists() else "no such file"
        raise UsageError(f"{file}: {what}")
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    name = f"_advbench_file_{file.stem}_{digest}"
    if plugin:
        _plugins.add(name)
    elif name in _plugins:
        name += "_object"
    folder = folder_of(file)
    folder.forget_changed()
    spec = importlib.util.spec_from_file_location(name, file, loader=LocalLoader(folder, name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find_object(path: str) -> tuple[Any, str]:
    """Imports the object that ``FILE.py:NAME`` or ``package.module:NAME`` names.

    Returns:
        The object, and the name of its module.

    Raises:
        UsageError: The text has another form, there is no such file or module, importing it raises, or the module has
            no such name.
    """
    source, _, name = path.rpartition(":")
    if not source or not name.isidentifier():
        raise UsageError(f"{path}: must be FILE.py:NAME or package.module:NAME")
    try:
        module = import_file(Path(source).expanduser()) if source.endswith(".py") else importlib.import_module(source)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path}: importing {source} raises {describe(error)}; fix that") from error
    if not hasattr(module, name):
        raise UsageError(f"{path}: {source} defines no {name!r}")
    return getattr(module, name), module.__name__
