"""Suites and commands that plugins register. Does not import torch."""

from __future__ import annotations

import dataclasses
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from advbench._deprecated import old_api_version
from advbench.api import hookspecs
from advbench.api.commands import StudyCommand
from advbench.api.component import closest
from advbench.discovery.entry_points import entry_points, is_disabled
from advbench.discovery.plugins import STUDIES, Plugin, PluginLog
from advbench.errors import UnknownNameError, describe, listed, nearest
from advbench.option_names import option
from advbench.process.stdout import stdout_to_stderr

if TYPE_CHECKING:
    from importlib.abc import Traversable

__all__ = ["KINDS", "NamedSuite", "Studies", "check_version", "core_suites", "discover_studies", "hook_manager"]

KINDS = ("suites", "commands")
"""What studies register, as in ``register_<kind>``."""

_NAME = re.compile(r"[a-z][a-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class NamedSuite:
    """A suite that a plugin registers.

    Attributes:
        name: What ``--suite`` takes.
        file: Its TOML file.
    """

    name: str
    file: Traversable | Path


def core_suites() -> dict[str, Traversable]:
    """The files of the suites that the core ships, by name."""
    folder = resources.files("advbench") / "specs" / "suites"
    return {file.name.removesuffix(".toml"): file for file in folder.iterdir() if file.name.endswith(".toml")}


class Studies:
    """The suites and commands that plugins register.

    A name that two plugins register belongs to neither: using it is an error that names both. Names of the core's
    suites stay with the core.

    Args:
        log: Which plugins were loaded, and what is wrong with any.
    """

    def __init__(self, log: PluginLog) -> None:
        self.log = log
        self._held: dict[str, dict[str, list[tuple[Any, Plugin]]]] = {kind: {} for kind in KINDS}

    def register(self, manager: pluggy.PluginManager, plugin: Plugin) -> None:
        """Calls the hooks of a module; a suite or command that cannot be used becomes a problem of the plugin."""
        manager.hook.register_suites(register=lambda name, file: self._register_suite(name, file, plugin))
        manager.hook.register_commands(register=lambda command: self._register_command(command, plugin))

    def withdraw(self, plugin: Plugin) -> None:
        """Removes everything that a plugin has registered."""
        for kind, name in plugin.contributions:
            holders = self._held[kind]
            holders[name] = [holder for holder in holders[name] if holder[1] is not plugin]
            if not holders[name]:
                del holders[name]
        plugin.contributions.clear()

    def names(self, kind: str) -> list[str]:
        """The names that can be used, sorted."""
        return sorted(name for name, holders in self._held[kind].items() if len(holders) == 1)

    def suite(self, name: str) -> NamedSuite:
        """The suite of this name; raises as :meth:`plugin_of` does."""
        suite = self._get("suites", name)[0]
        assert isinstance(suite, NamedSuite)
        return suite

    def command(self, name: str) -> StudyCommand:
        """The command of this name; raises as :meth:`plugin_of` does."""
        command = self._get("commands", name)[0]
        assert isinstance(command, StudyCommand)
        return command

    def plugin_of(self, kind: str, name: str) -> Plugin:
        """The plugin that registers a name.

        Raises:
            UnknownNameError: None does, or more than one.
        """
        return self._get(kind, name)[1]

    def holds(self, kind: str, name: str) -> bool:
        """Whether any plugin registers this name."""
        return name in self._held[kind]

    def unknown(self, kind: str, name: str, known: Sequence[str] = ()) -> str:
        """The message for an unknown name.

        Args:
            kind: ``suites`` or ``commands``.
            name: The name.
            known: Names beside those that plugins register.
        """
        names = sorted({*known, *self.names(kind)})
        what = "suite" if kind == "suites" else "study"
        if not names:
            message = f"unknown {what} {name!r}; no plugin registers any"
        else:
            hint = closest(name, names) or f"there are: {listed(names)}"
            message = f"unknown {what} {name!r}; {hint}"
        disabled = [plugin.name for plugin in self.log.left_out if plugin.group == STUDIES]
        if disabled:
            message += f" (disabled plugins, which may have it: {', '.join(disabled)})"
        broken = [plugin for plugin in self.log.plugins if plugin.group == STUDIES and self.log.problems_of(plugin)]
        if broken:
            message += (
                f" (plugins with problems: {', '.join(plugin.name for plugin in broken)}; see 'advbench plugins')"
            )
        return message

    def _get(self, kind: str, name: str) -> tuple[Any, Plugin]:
        holders = self._held[kind].get(name, [])
        if len(holders) == 1:
            return holders[0]
        raise UnknownNameError(self._clash(kind, name) if holders else self.unknown(kind, name))

    def _register_suite(self, name: object, file: object, plugin: Plugin) -> None:
        readable = all(hasattr(file, method) for method in ("is_file", "read_text"))
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self.log.report(plugin, f"register_suites: the name {name!r} must be {_named('suite')}")
        elif not readable:
            self.log.report(plugin, f"register_suites: the suite {name!r} must be a Path of a TOML file, not {file!r}")
        elif not file.is_file():  # type: ignore[attr-defined]
            self.log.report(plugin, f"register_suites: the suite {name!r}: there is no file {file}")
        elif name in core_suites():
            self.log.report(
                plugin,
                f"register_suites: the name {name!r} is that of a suite of advbench itself, so that of "
                f"{plugin.provenance} is not used; rename it",
            )
        else:
            self._add("suites", name, NamedSuite(name, file), plugin)  # type: ignore[arg-type]

    def _register_command(self, command: object, plugin: Plugin) -> None:
        if not isinstance(command, StudyCommand):
            self.log.report(plugin, f"register_commands: {command!r} is not an advbench.api.StudyCommand")
        elif not isinstance(command.name, str) or not _NAME.fullmatch(command.name):
            self.log.report(plugin, f"register_commands: the name {command.name!r} must be {_named('study')}")
        else:
            self._add("commands", command.name, command, plugin)

    def _add(self, kind: str, name: str, value: Any, plugin: Plugin) -> None:
        holders = self._held[kind].setdefault(name, [])
        if any(holder == value for holder, _ in holders):
            return
        holders.append((value, plugin))
        plugin.contributions.append((kind, name))
        if len(holders) > 1:
            self.log.report(plugin, self._clash(kind, name))

    def _clash(self, kind: str, name: str) -> str:
        plugins = [plugin for _, plugin in self._held[kind][name]]
        both = " and ".join(f"{plugin.provenance} (plugin {plugin.name!r})" for plugin in plugins)
        last = plugins[-1]
        without = (
            f"leave out {option('plugin', last.name)}" if last.from_file else f"give {option('no_plugin', last.name)}"
        )
        what = f"the {kind[:-1]} name {name!r}"
        return f"{what} is registered by {both}, so it is used from neither; rename one, or {without}"


def discover_studies(without: Sequence[str] = ()) -> Studies:
    """Loads the plugins of the group ``advbench.studies`` only, which do not import torch.

    Args:
        without: Entry points or distributions not to load, beside those that the environment names.
    """
    studies = Studies(PluginLog())
    for plugin, entry_point in entry_points([STUDIES], studies.log):
        if is_disabled(plugin, without):
            studies.log.left_out.append(plugin)
        else:
            _load(studies, plugin, entry_point.load)
    return studies


def hook_manager(module: Any, name: str) -> tuple[pluggy.PluginManager, set[str]]:
    """A manager with the hooks of one module, and the names of those that it implements.

    Raises:
        pluggy.PluginValidationError: A hook is unknown or has other arguments.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(module, name)
    callers = manager.get_hookcallers(module) or ()
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        unknown = next(caller.name for caller in callers if not caller.has_spec())
        known = [name for name in vars(manager.hook) if getattr(hookspecs, name, None) is not None]
        meant = nearest(unknown, known)
        hint = f"; did you mean {meant!r}?" if meant else f"; there are: {', '.join(known)}"
        raise pluggy.PluginValidationError(module, f"unknown hook {unknown!r}{hint}") from error
    return manager, {caller.name for caller in callers}


def check_version(module: Any) -> str:
    """What is wrong with the API version that a module names, or an empty text; warns of a version that goes."""
    version = getattr(module, "API_VERSION", hookspecs.API_VERSION)
    ours = hookspecs.API_VERSION
    if type(version) is not int:
        return f"API_VERSION = {version!r} must be a whole number; this advbench has {ours}"
    if not hookspecs.OLDEST_API_VERSION <= version <= ours:
        older = "the plugin" if version < ours else "advbench"
        return f"needs API version {version!r}, this advbench has {ours}; upgrade {older}"
    if version < ours:
        old_api_version(module, version, ours)
    return ""


def _load(studies: Studies, plugin: Plugin, load: Callable[[], Any]) -> None:
    """Loads one plugin and lets it register; whatever it raises becomes a problem."""
    studies.log.plugins.append(plugin)
    had_torch = "torch" in sys.modules
    try:
        with stdout_to_stderr():  # what a plugin prints must not mix with tables
            module = load()
            wrong = check_version(module)
            if wrong:
                studies.log.report(plugin, wrong)
                return
            studies.register(hook_manager(module, plugin.name)[0], plugin)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        studies.log.report(plugin, describe(error), traceback.format_exc())
    if "torch" in sys.modules and not had_torch:
        studies.log.report(plugin, f"{plugin.module} imports torch; import it inside the functions that use it")


def _named(what: str) -> str:
    return f"text such as 'my-{what}': lower case, digits, '-', '_', '.'"
