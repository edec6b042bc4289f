"""Flags and suite to one suite, and back to the command that makes it."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from typing import Any

from advbench.discovery.loading import named_files
from advbench.discovery.registry import Registry
from advbench.specs import AXES, DEFAULT_SUITE, Suite, load_suite, narrow

__all__ = ["CUSTOM", "plugin_words", "recipe", "suite_of"]

CUSTOM = "custom"
"""Name of a run that flags make, without a suite."""

SETTINGS = ("limit", "seed", "eot", "score_draws", "surrogate", "precision")
"""What a suite, or a flag of the same name, says beside the axes."""


def suite_of(options: argparse.Namespace, registry: Registry) -> Suite:
    """The suite that the flags ask for.

    Flags replace axes of the suite; without ``--suite`` those of the default one, whose limit is for its own
    datasets: then with ``--datasets`` all samples count unless ``--limit`` says otherwise. Where a suite has
    parts, ``--datasets`` and ``--models`` pick those that have them, and other flags replace an axis of each.

    Raises:
        UsageError: There is no such suite, its file is unreadable, or no part has what was picked.
    """
    suite = load_suite(options.suite or DEFAULT_SUITE, registry.studies)
    given: dict[str, Any] = {axis: tuple(values) for axis in AXES if (values := getattr(options, axis)) is not None}
    if given and options.suite is None:
        # What flags leave out comes from the default suite's first part alone, as one product.
        first = suite.products[0]
        suite = dataclasses.replace(suite, **{axis: getattr(first, axis) for axis in AXES}, parts=())
        given["name"] = CUSTOM
        if "datasets" in given:
            given["limit"] = None
    given |= {key: value for key in SETTINGS if (value := getattr(options, key, None)) is not None}
    for axis in ("datasets", "models"):
        if suite.parts and axis in given:
            suite = narrow(registry, suite, axis, given.pop(axis))
    replaced = {axis: specs for axis, specs in given.items() if axis in AXES}
    parts = tuple(dataclasses.replace(part, **replaced) for part in suite.parts)
    return dataclasses.replace(suite, **given, parts=parts)


def recipe(options: argparse.Namespace, seed: int | None = None) -> str:
    """The command that makes the same results anywhere: without flags that only say where and how to run.

    Args:
        options: What was typed.
        seed: The one of ``--seeds`` whose run it makes; None for all of them.
    """
    words = ["advbench", "matrix"]
    if options.suite is not None:
        words += ["--suite", options.suite]
    for axis in AXES:
        values = getattr(options, axis)
        if values is not None:
            words += [f"--{axis}", *values]
    for key in SETTINGS:
        if getattr(options, key, None) is not None:
            words += [f"--{key.replace('_', '-')}", str(getattr(options, key))]
    if seed is not None:
        words += ["--seed", str(seed)]
    elif getattr(options, "seeds", None):
        words += ["--seeds", *map(str, options.seeds)]
    if getattr(options, "check_convergence", False):
        words.append("--check-convergence")
    return shlex.join([*words, *_place_words(options), *plugin_words(options)])


def _place_words(options: argparse.Namespace) -> list[str]:
    """Flags of where to run that shape the board all the same: which data, what kind of device, what is too slow."""
    words = []
    device = str(getattr(options, "device", "auto"))
    if device != "auto":
        words += ["--device", device.partition(":")[0]]
    for flag in ("data_dir", "cell_timeout"):
        given = getattr(options, flag, None)
        if given is not None:
            words += [f"--{flag.replace('_', '-')}", f"{given:g}" if isinstance(given, float) else str(given)]
    return words


def plugin_words(options: argparse.Namespace) -> list[str]:
    """The flags that load the same plugins, those of the environment included."""
    words = []
    for file in dict.fromkeys([*named_files(), *options.plugin]):
        words += ["--plugin", str(file)]
    for name in options.no_plugin:
        words += ["--no-plugin", name]
    return words
