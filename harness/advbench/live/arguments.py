"""From the keyword arguments of :func:`advbench.matrix` to options, with the checks of the command line."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from advbench.errors import UsageError, nearest
from advbench.session.options import CHECKS, RunOptions

__all__ = ["run_options"]

_OBJECTS = ("datasets", "models", "attacks", "defenses")
"""The axes, which may hold live objects and are not read here."""

_COMMAND_ONLY = ("dry_run", "export")
"""What only the command does."""

_LISTS = ("threats", "surrogate", "seeds", "radii", "plugin", "no_plugin")
_SWITCHES = ("certify", "check_convergence", "fail_fast", "quiet", "strict_plugins", "verbose")
_NAMES = {
    *(field.name for field in dataclasses.fields(RunOptions) if field.name not in ("verbosity", *_COMMAND_ONLY)),
    *_SWITCHES,
}


def run_options(arguments: Mapping[str, Any]) -> RunOptions:
    """The options that keyword arguments ask for; None stands for the default.

    Args:
        arguments: Values by the names of :class:`RunOptions`, except for the axes of components; and ``quiet`` and
            ``verbose``, which set the verbosity.

    Raises:
        UsageError: An argument does not exist or has a value that is not allowed.
    """
    values = {}
    for name, value in arguments.items():
        if name in _COMMAND_ONLY:
            flag = f"--{name.replace('_', '-')}"
            hint = "call .export(FILE) of the results" if name == "export" else f"only the command has {flag}"
            raise UsageError(f"matrix() has no argument {name!r}; {hint}")
        if name not in _NAMES or name in _OBJECTS:
            near = nearest(name, sorted(_NAMES))
            hint = f"did you mean {near!r}?" if near else "its docstring and 'advbench matrix --help' list them"
            raise UsageError(f"matrix() has no argument {name!r}; {hint}")
        if value is not None:
            values[name] = _checked(name, value)
    quiet, verbose = values.pop("quiet", False), values.pop("verbose", False)
    return RunOptions(**values, verbosity=-1 if quiet else int(verbose))


def _checked(name: str, value: Any) -> Any:
    """The value of an option, from a value of any type that means the same."""
    if name in _SWITCHES:
        if not isinstance(value, bool):
            raise UsageError(f"{name}: {value!r}: must be True or False")
        return value
    if name in _LISTS:
        several = isinstance(value, Iterable) and not isinstance(value, (str, Path))
        items = tuple(_parsed(name, item) for item in (value if several else [value]))
        if not items and name in ("threats", "surrogate", "seeds"):
            raise UsageError(f"{name}: is empty; give at least one, or leave it out")
        return items
    return _parsed(name, value)


def _parsed(name: str, value: Any) -> Any:
    if isinstance(value, (list, tuple, set, dict)):
        raise UsageError(f"{name}: {value!r}: give one value")
    try:
        return CHECKS.get(name, str)(str(value))
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{name}: {error}") from None
