"""Loading plugins from entry points and files into a registry. A broken plugin is recorded as a problem."""

from __future__ import annotations

import importlib
import os
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from advbench import api
from advbench._version import __version__
from advbench.api import Component
from advbench.api.executor import taint_process
from advbench.api.modules import import_file
from advbench.discovery.entry_points import DISABLE_VARIABLE, FILES_VARIABLE, entry_points, is_disabled, named_files
from advbench.discovery.plugins import COMPONENTS, STUDIES
from advbench.discovery.registry import KINDS, Plugin, Registry
from advbench.discovery.studies import KINDS as STUDY_KINDS
from advbench.discovery.studies import check_version, hook_manager
from advbench.errors import PluginError, UsageError, describe
from advbench.option_names import option
from advbench.process.exits import ProcessExitError, exits_refused
from advbench.process.state import ProcessState
from advbench.process.stdout import stdout_to_stderr
from advbench.process.threads import report_thread_errors
from advbench.process.watching.attributes import PERMANENT, watch_attributes

__all__ = ["DISABLE_VARIABLE", "FILES_VARIABLE", "discover", "named_files"]


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
    for plugin, entry_point in entry_points([COMPONENTS, STUDIES], registry):
        if is_disabled(plugin, without):
            registry.left_out.append(plugin)
        else:
            _load(registry, plugin, entry_point.load)
    for file in dict.fromkeys(Path(os.path.realpath(file)) for file in files):
        if not file.is_file() or file.suffix != ".py":
            what = "not a Python file (its name must end in .py)" if file.exists() else "no such file"
            raise UsageError(f"{option('plugin', file)}: {what}")
        plugin = Plugin(str(file), f"file {file.name}", "", file.stem, from_file=True)
        _load(registry, plugin, partial(import_file, file, plugin=True))
    watched.include(registry.packages())
    if strict and registry.problems:
        raise PluginError(str(registry.problems[0]))
    return registry


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
    wrong = check_version(module)
    if wrong:
        registry.report(plugin, wrong)
        return
    manager, hooks = hook_manager(module, plugin.name)
    if not hooks:
        registry.report(plugin, f"{plugin.module} implements no register_… hook; decorate one with @hookimpl")
        return
    if plugin.group == COMPONENTS:
        for kind in KINDS:
            register: Callable[[type[Component]], None] = partial(registry.register, kind, plugin=plugin)
            getattr(manager.hook, f"register_{kind}")(register=register)
    if plugin.group == STUDIES or plugin.from_file:
        registry.studies.register(manager, plugin)
    others = STUDY_KINDS if plugin.group == COMPONENTS else KINDS
    ignored = [] if plugin.from_file else sorted(hooks & {f"register_{kind}" for kind in others})
    if ignored:
        group = STUDIES if plugin.group == COMPONENTS else COMPONENTS
        registry.report(
            plugin,
            f"{' and '.join(ignored)} of {plugin.module}: only modules of the entry-point group {group!r} may have it; "
            "move it to a module that is named there",
        )
