"""Plugins, and what is wrong with any. Imports neither torch nor a plugin."""

from __future__ import annotations

import dataclasses

from advbench.printable import one_line, printable

__all__ = ["COMPONENTS", "STUDIES", "Plugin", "PluginLog", "Problem"]

COMPONENTS = "advbench"
"""The entry-point group of plugins that register components."""

STUDIES = "advbench.studies"
"""The entry-point group of plugins that register suites and commands. They are loaded without torch."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something wrong with a plugin, which was left out or partly left out for it.

    Attributes:
        plugin: Name of the entry point or file.
        distribution: The distribution that it comes from, with its version.
        message: What is wrong and what to do, in one line.
        traceback: The full traceback where an exception was raised; empty otherwise.
    """

    plugin: str
    distribution: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} of {printable(self.distribution)}: {self.message}"


@dataclasses.dataclass
class Plugin:
    """One entry point, file or core module that registers components, suites or commands.

    Attributes:
        name: Name of the entry point, or the file's path.
        distribution: Name of the distribution that it comes from.
        version: The distribution's version.
        module: The module that was imported.
        from_file: Whether it is a single file that the user named, and no entry point.
        group: The entry-point group; of files and core modules ``advbench``.
        components: ``(kind, name)`` of the components that it registered.
        contributions: ``(kind, name)`` of the suites and commands that it registered.
    """

    name: str
    distribution: str
    version: str
    module: str
    from_file: bool = False
    group: str = COMPONENTS
    components: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    contributions: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    @property
    def provenance(self) -> str:
        """Distribution and version in one text."""
        return f"{self.distribution} {self.version}".strip()

    @property
    def registered(self) -> list[tuple[str, str]]:
        """``(kind, name)`` of all that it registered; a command is named as it is typed."""
        shown = [(kind, f"reproduce {name}" if kind == "commands" else name) for kind, name in self.contributions]
        return [*self.components, *shown]


class PluginLog:
    """Which plugins were loaded, and what is wrong with any.

    Attributes:
        plugins: All that were loaded, or tried.
        left_out: Those that the user did not want loaded.
        problems: What is wrong with any.
    """

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.left_out: list[Plugin] = []
        self.problems: list[Problem] = []

    def report(self, plugin: Plugin, message: str, traceback: str = "") -> None:
        """Records a problem; the message becomes one line of printable text."""
        self.problems.append(Problem(plugin.name, plugin.provenance, one_line(message), traceback))

    def problems_of(self, plugin: Plugin) -> list[Problem]:
        """The problems of one plugin."""
        return [p for p in self.problems if (p.plugin, p.distribution) == (plugin.name, plugin.provenance)]
