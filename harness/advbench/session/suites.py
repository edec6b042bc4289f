"""From options to the suite that is run, and back to the command that reproduces it."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

from advbench.api.parameters import format_value
from advbench.discovery.loading import named_files
from advbench.discovery.registry import Registry
from advbench.errors import UsageError
from advbench.option_names import option
from advbench.session.options import LoadOptions, RunOptions
from advbench.specs import AXES, CUSTOM, EFFORTS, Suite, narrow

__all__ = ["plugin_words", "recipe", "suite_of", "suites_by_seed"]

SETTINGS = (
    *("limit", "seed", "eot", "score_draws", "max_queries", "surrogate", "precision"),
    *("fit_samples", "fit_data", "rows", "reference", "certify", "radii"),
)
"""What a suite, or the option of the same name, sets besides the axes."""


def suite_of(suite: Suite, options: RunOptions, registry: Registry) -> Suite:
    """The suite that the options ask for.

    Options replace axes of the suite. Without ``options.suite`` they replace those of the default suite, whose limit
    and number of draws are meant for its own axes: if datasets are given, all samples count unless ``options.limit`` is
    set; if any axis is given, the number of draws is that of suites that set none unless ``options.eot`` is set.

    If the suite has parts, ``datasets`` and ``models`` select the parts that have them, and other options replace an
    axis of each part.

    Args:
        suite: The suite of ``options.suite``, or the default suite, as its file has it.
        options: What the user asked for.
        registry: The registered components.

    Raises:
        UsageError: No part has what was selected.
    """
    given: dict[str, Any] = {axis: values for axis in AXES if (values := getattr(options, axis)) is not None}
    if given and options.suite is None:
        # Axes that the user leaves out come from the first part of the default suite only, as one product.
        first = suite.products[0]
        suite = dataclasses.replace(suite, **{axis: getattr(first, axis) for axis in AXES}, parts=())
        given |= {"name": CUSTOM, "description": ""}
        given["eot"] = Suite.eot  # the default suite has fewer draws so that it is quick
        if "datasets" in given:
            given["limit"] = None
    given |= {name: value for name in SETTINGS if (value := getattr(options, name)) is not None}
    for axis in ("datasets", "models"):
        if suite.parts and axis in given:
            suite = narrow(registry, suite, axis, given.pop(axis))
    replaced: dict[str, Any] = {axis: specs for axis, specs in given.items() if axis in AXES}
    replaced |= {key: None for key in EFFORTS if key in given}  # an option counts for all parts
    parts = tuple(dataclasses.replace(part, **replaced) for part in suite.parts)
    if options.name is not None:
        given["name"] = options.name
    return dataclasses.replace(suite, **given, parts=parts)


def suites_by_seed(suite: Suite, options: RunOptions) -> list[tuple[Suite, str]]:
    """The suite with each requested seed, and the command that runs it with that seed.

    Raises:
        UsageError: A seed is given twice, or both ``seed`` and ``seeds`` are set.
    """
    if not options.seeds:
        return [(suite, recipe(options))]
    if options.seed is not None:
        raise UsageError(f"{option('seed')} and {option('seeds')}: give only one of them")
    repeated = [seed for seed in options.seeds if options.seeds.count(seed) > 1]
    if repeated:
        raise UsageError(f"{option('seeds')}: {repeated[0]} is given twice; remove one")
    return [(dataclasses.replace(suite, seed=seed), recipe(options, seed)) for seed in options.seeds]


def recipe(options: RunOptions, seed: int | None = None) -> str:
    """The command that reproduces the results, without options that only say where and how to run.

    Args:
        options: What the user asked for.
        seed: The seed of ``options.seeds`` that the command runs; None for all of them.
    """
    words = ["advbench", "matrix"]
    if options.name is not None:
        words += ["--name", options.name]
    if options.suite is not None:
        words += ["--suite", options.suite]
    for axis in AXES:
        values = getattr(options, axis)
        if values is not None:
            words += [f"--{axis}", *values]
    for name in SETTINGS:
        value = getattr(options, name)
        if value is True:
            words.append(f"--{name}")
        elif isinstance(value, tuple):
            words += [f"--{name}", *map(format_value, value)]
        elif value is not None and value is not False:
            words += [f"--{name.replace('_', '-')}", str(value)]
    if seed is not None:
        words += ["--seed", str(seed)]
    elif options.seeds:
        words += ["--seeds", *map(str, options.seeds)]
    if options.check_convergence:
        words.append("--check-convergence")
    return shlex.join([*words, *_environment_words(options), *plugin_words(options)])


def _environment_words(options: RunOptions) -> list[str]:
    """Flags of where and how to run that affect the results: data, type of device, time limit."""
    words = []
    if options.device != "auto":
        words += ["--device", options.device.partition(":")[0]]
    if options.data_dir is not None:
        words += ["--data-dir", str(options.data_dir)]
    if options.cell_timeout is not None:
        words += ["--cell-timeout", f"{options.cell_timeout:g}"]
    return words


def plugin_words(options: LoadOptions) -> list[str]:
    """The flags that load the same plugins, including those that the environment names."""
    words = []
    for file in dict.fromkeys([*named_files(), *options.plugin]):
        words += ["--plugin", str(file)]
    for name in options.no_plugin:
        words += ["--no-plugin", name]
    return words
