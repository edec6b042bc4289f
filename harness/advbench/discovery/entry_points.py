"""The plugins that installed distributions and the environment name. Imports neither torch nor a plugin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from advbench.discovery.plugins import Plugin, PluginLog
from advbench.errors import describe

__all__ = ["DISABLE_VARIABLE", "FILES_VARIABLE", "entry_points", "is_disabled", "named_files"]

DISABLE_VARIABLE = "ADVBENCH_DISABLE_PLUGINS"
"""Environment variable: entry points or distributions not to load, separated by commas; ``*`` for all."""

FILES_VARIABLE = "ADVBENCH_PLUGINS"
"""Environment variable: Python files to load as plugins, separated as in ``PATH``."""


def named_files() -> list[Path]:
    """The files that the environment names as plugins."""
    return [Path(file).expanduser() for file in os.environ.get(FILES_VARIABLE, "").split(os.pathsep) if file]


def is_disabled(plugin: Plugin, without: Sequence[str]) -> bool:
    """Whether the environment or these names disable a plugin."""
    names = {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",")} | set(without)
    return not names.isdisjoint({"*", plugin.name, plugin.distribution})


def entry_points(groups: Sequence[str], log: PluginLog) -> list[tuple[Plugin, metadata.EntryPoint]]:
    """The entry points of these groups in all distributions, by name; broken metadata becomes a problem."""
    by_distribution: dict[str, list[tuple[Plugin, metadata.EntryPoint]]] = {}
    for distribution in metadata.distributions():
        if not _may_have_plugins(distribution, groups):
            continue
        name, version = "a distribution without a name", ""
        try:
            shown = distribution.metadata
            name, version = shown["Name"] or name, shown["Version"] or ""
            if name.lower() in by_distribution:
                continue
            # The first of that name on the path is the one that is imported, whether it has plugins or not.
            first = metadata.distribution(name) if shown["Name"] else distribution
            version = first.metadata["Version"] or ""
            by_distribution[name.lower()] = [
                (Plugin(point.name, name, version, point.value, group=group), point)
                for group in groups
                for point in first.entry_points.select(group=group)
            ]
        except Exception as error:
            log.report(Plugin("(metadata)", name, version, ""), f"its metadata cannot be read: {describe(error)}")
    return sorted((pair for pairs in by_distribution.values() for pair in pairs), key=lambda pair: pair[0].name)


def _may_have_plugins(distribution: metadata.Distribution, groups: Sequence[str]) -> bool:
    """Whether it has entry points of these groups, or some that cannot be read.

    The metadata of all other distributions, a few hundred with the texts of their front pages, is not parsed.
    """
    try:
        return any(distribution.entry_points.select(group=group) for group in groups)
    except Exception:
        return True
