"""Python files and import paths of the user's own, to modules and what is in them."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from advbench.api.neighbours import Source, folder_of
from advbench.errors import UsageError, describe

__all__ = ["find_object", "import_file"]


def import_file(file: Path) -> ModuleType:
    """Imports a single Python file under a name that no installed module has; whatever it raises goes up.

    The file is read anew where it was imported before. What it imports is looked for beside it first, as Python does
    for a file that it runs; modules that were found there and have changed since are imported anew, too.

    Raises:
        UsageError: There is no such file, or its name does not end in ``.py``.
    """
    file = file.resolve()
    if not file.is_file() or file.suffix != ".py":
        what = "not a Python file (its name must end in .py)" if file.exists() else "no such file"
        raise UsageError(f"{file}: {what}")
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    name = f"_advbench_file_{file.stem}_{digest}"
    folder = folder_of(file)
    folder.forget_changed()
    spec = importlib.util.spec_from_file_location(name, file, loader=Source(folder, name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find_object(path: str) -> tuple[Any, str]:
    """What ``FILE.py:NAME`` or ``package.module:NAME`` stands for, and the name of the module that it is in.

    Raises:
        UsageError: The text has another form, there is no such file or module, importing it raises, or it has no such
            name; in one line.
    """
    place, _, name = path.rpartition(":")
    if not place or not name.isidentifier():
        raise UsageError(f"{path}: must be FILE.py:NAME or package.module:NAME")
    try:
        module = import_file(Path(place).expanduser()) if place.endswith(".py") else importlib.import_module(place)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path}: importing {place} raises {describe(error)}; mend that") from error
    if not hasattr(module, name):
        raise UsageError(f"{path}: {place} defines no {name!r}")
    return getattr(module, name), module.__name__
