"""Flags and suite to one suite, and back to the command that makes it."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from typing import Any

from advbench.specs import DEFAULT_SUITE, Suite, load_suite

__all__ = ["CUSTOM", "recipe", "suite_of"]

CUSTOM = "custom"
"""Name of a run that flags make, without a suite."""

_AXES = ("datasets", "models", "attacks", "defenses", "threats")


def suite_of(options: argparse.Namespace) -> Suite:
    """The suite that the flags ask for.

    Flags replace parts of the suite; without ``--suite`` those of the default one, whose limit is for its own
    datasets: then with ``--datasets`` all samples count unless ``--limit`` says otherwise.

    Raises:
        UsageError: There is no such suite, or its file is unreadable.
    """
    suite = load_suite(options.suite or DEFAULT_SUITE)
    given: dict[str, Any] = {axis: tuple(values) for axis in _AXES if (values := getattr(options, axis)) is not None}
    if given and options.suite is None:
        given["name"] = CUSTOM
        if "datasets" in given:
            given["limit"] = None
    given |= {key: value for key in ("limit", "seed") if (value := getattr(options, key)) is not None}
    return dataclasses.replace(suite, **given)


def recipe(options: argparse.Namespace) -> str:
    """The command that makes the same results anywhere: without flags that only say where and how to run."""
    words = ["advbench", "matrix"]
    if options.suite is not None:
        words += ["--suite", options.suite]
    for axis in _AXES:
        values = getattr(options, axis)
        if values is not None:
            words += [f"--{axis}", *values]
    for key in ("limit", "seed"):
        if getattr(options, key) is not None:
            words += [f"--{key}", str(getattr(options, key))]
    for file in options.plugin:
        words += ["--plugin", str(file)]
    return shlex.join(words)
