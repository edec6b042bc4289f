"""Loading plugins from entry points and files into a registry. A broken plugin is recorded as a problem."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import pluggy

from advbench import __version__, api
from advbench.api import API_VERSION, Component, hookspecs
from advbench.api.executor import taint_process
from advbench.api.modules import import_file
from advbench.discovery.registry import KINDS, Plugin, Registry
from advbench.errors import PluginError, UsageError, describe
from advbench.process.exits import ProcessExitError, exits_refused
from advbench.process.state import ProcessState
from advbench.process.stdout import stdout_to_stderr
from advbench.process.threads import report_thread_errors
from advbench.process.watching.attributes import PERMANENT, watch_attributes

__all__ = ["DISABLE_VARIABLE", "FILES_VARIABLE", "discover", "named_files"]

DISABLE_VARIABLE = "ADVBENCH_DISABLE_PLUGINS"
"""Environment variable: entry points or distributions that are not loaded, separated by commas; ``*`` for all."""

FILES_VARIABLE = "ADVBENCH_PLUGINS"
"""Environment variable: Python files that are loaded as plugins, separated as in ``PATH``."""


def named_files() -> list[Path]:
    """The plugin files named in the environment variable."""
    return [Path(file).expanduser() for file in os.environ.get(FILES_VARIABLE, "").split(os.pathsep) if file]


def discover(
    core: Sequence[str] = (), files: Sequence[Path] = (), *, without: Sequence[str] = (), strict: bool = False
) -> Registry:
    """Loads all plugins, each independently of the others, and collects their components.

    Args:
        core: Modules of advbench itself that register components; they cannot be disabled.
        files: Single Python files to load as plugins.
        without: Entry points or distributions not to load, in addition to those named in the environment.
        strict: Whether to raise the first problem.

    Raises:
        PluginError: ``strict`` is set and a plugin has a problem.
        UsageError: A file of ``files`` does not exist.
    """
    registry = Registry()
    for name in api.__all__:  # what is imported on first use is there to be watched
        getattr(api, name)
    watched = watch_attributes()
    for module in core:
        plugin = Plugin("core", "advbench", __version__, module)
        _load(registry, plugin, partial(importlib.import_module, module))
    for plugin, entry_point in _entry_points(registry):
        if _disabled(plugin, without):
            registry.left_out.append(plugin)
        else:
            _load(registry, plugin, entry_point.load)
    for file in dict.fromkeys(file.resolve() for file in files):
        if not file.is_file() or file.suffix != ".py":
            what = "not a Python file (its name must end in .py)" if file.exists() else "no such file"
            raise UsageError(f"--plugin {file}: {what}")
        plugin = Plugin(str(file), f"file {file.name}", "", file.stem, from_file=True)
        _load(registry, plugin, partial(import_file, file))
    watched.include(registry.packages())
    if strict and registry.problems:
        raise PluginError(str(registry.problems[0]))
    return registry


def _entry_points(registry: Registry) -> list[tuple[Plugin, metadata.EntryPoint]]:
    """The entry points of all distributions, sorted by name. Broken metadata is recorded as a problem."""
    by_name: dict[str, list[tuple[Plugin, metadata.EntryPoint]]] = {}
    for distribution in filter(_may_have_plugins, metadata.distributions()):
        name, version = "a distribution without a name", ""
        try:
            described = distribution.metadata
            name, version = described["Name"] or name, described["Version"] or ""
            if name.lower() in by_name:
                continue
            # Python imports the first distribution of this name on the path, even if a later one has the plugins.
            first = metadata.distribution(name) if described["Name"] else distribution
            version = first.metadata["Version"] or ""
            points = first.entry_points.select(group=hookspecs.PROJECT)
            by_name[name.lower()] = [(Plugin(point.name, name, version, point.value), point) for point in points]
        except Exception as error:
            registry.report(Plugin("(metadata)", name, version, ""), f"its metadata cannot be read: {describe(error)}")
    return sorted((pair for pairs in by_name.values() for pair in pairs), key=lambda pair: pair[0].name)


def _may_have_plugins(distribution: metadata.Distribution) -> bool:
    """Whether a distribution has entry points for advbench, or some that cannot be read.

    This check is fast; parsing the metadata of several hundred distributions, with their long descriptions, is not.
    """
    try:
        return bool(distribution.entry_points.select(group=hookspecs.PROJECT))
    except Exception:
        return True


def _disabled(plugin: Plugin, without: Sequence[str]) -> bool:
    names = {name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",")} | set(without)
    return not names.isdisjoint({"*", plugin.name, plugin.distribution})


def _load(registry: Registry, plugin: Plugin, load: Callable[[], Any]) -> None:
    """Loads one plugin and registers its components; any exception is recorded as a problem."""
    registry.plugins.append(plugin)
    before = ProcessState()
    try:
        # Output of a plugin must not mix with the tables on stdout.
        with stdout_to_stderr(), exits_refused(), report_thread_errors(partial(_report_thread, registry, plugin)):
            _register(registry, plugin, load())
    except KeyboardInterrupt:
        raise
    except ProcessExitError as error:
        # Worker processes that load it would end, too.
        registry.withdraw(plugin, f"called a function that ends the process while it was loaded: {error}")
        registry.report(
            plugin, f"{error} while it was loaded; no component of the plugin is used", traceback.format_exc()
        )
    except BaseException as error:
        registry.report(plugin, describe(error), traceback.format_exc())
    variables = dict(os.environ)
    changed = before.restore()
    if not changed:
        os.environ.update(variables)  # a plugin may set environment variables for the libraries that it uses
    if changed:
        reason = f"changed {' and '.join(changed)} for the whole process while it was loaded"
        registry.withdraw(plugin, reason)
        restored = "" if PERMANENT in reason else "the change is reverted, and "
        registry.report(plugin, f"{reason}; {restored}no component of the plugin is used")
        taint_process(f"plugin {plugin.name!r} {reason}")


def _report_thread(registry: Registry, plugin: Plugin, error: BaseException) -> None:
    trace = "".join(traceback.format_exception(error))
    registry.report(plugin, f"a thread that it started raised {describe(error)}", trace)


def _register(registry: Registry, plugin: Plugin, module: Any) -> None:
    wanted = getattr(module, "API_VERSION", API_VERSION)
    if type(wanted) is not int:
        registry.report(plugin, f"API_VERSION = {wanted!r} must be a whole number; this advbench has {API_VERSION}")
        return
    if wanted != API_VERSION:
        older = "the plugin" if wanted < API_VERSION else "advbench"
        registry.report(plugin, f"needs API version {wanted!r}, this advbench has {API_VERSION}; upgrade {older}")
        return
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, plugin.name)
    manager.check_pending()
    callers = manager.get_hookcallers(module)
    if not callers:
        registry.report(plugin, f"{plugin.module} implements no register_… hook; decorate one with @hookimpl")
        return
    for kind in KINDS:
        register: Callable[[type[Component]], None] = partial(registry.register, kind, plugin=plugin)
        getattr(manager.hook, f"register_{kind}")(register=register)
