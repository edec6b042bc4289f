"""What commands share: discovery with its warnings, consoles, folders."""

from __future__ import annotations

import argparse
import io
import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, TextIO, cast

from rich.console import Console
from rich.logging import RichHandler

from advbench.api import DataSources, closest
from advbench.cli.flags import cache_folder
from advbench.discovery.loading import DISABLE_VARIABLE, discover, named_files
from advbench.discovery.registry import Registry
from advbench.errors import PluginError, UsageError
from advbench.specs import Suite, load_suite, shipped_suites
from advbench.store import Store

__all__ = [
    "CORE",
    "data_sources",
    "messages",
    "open_registry",
    "open_store",
    "plugin_files",
    "set_up_logging",
    "tables",
]

CORE = ("advbench.executors.plugin", "advbench.report.plugin")
"""The modules of advbench itself that register components."""

_PIPE_WIDTH = 200
_PADDING = re.compile(r"[ ]+\n")


def open_registry(options: argparse.Namespace, fault: Callable[[Registry], str] | None = None) -> Registry:
    """Discovers plugins and says in one line each what is wrong with any.

    Args:
        options: What was typed.
        fault: Tells what is wrong with plugins that the command cannot do without, or nothing.

    Raises:
        PluginError: There is such a fault; nothing else is said then.
    """
    registry = discover(CORE, plugin_files(options), without=options.no_plugin, strict=options.strict_plugins)
    known = {word for plugin in registry.left_out for word in (plugin.name, plugin.distribution)} | {"*"}
    for name in options.no_plugin:
        if name not in known:
            there = [plugin.name for plugin in registry.plugins if plugin.name != "core" and not plugin.from_file]
            hint = closest(name, there) or f"there are: {', '.join(there)}"
            raise UsageError(f"--no-plugin {name}: no plugin or distribution has this name; {hint}")
    wrong = fault(registry) if fault else ""
    if wrong:
        raise PluginError(wrong)
    for problem in registry.problems:
        print(f"advbench: warning: {problem}", file=sys.stderr)
    if not any(registry.all(kind) for kind in ("attacks", "defenses", "models", "datasets")):
        disabled = os.environ.get(DISABLE_VARIABLE)
        reason = "none is installed or none loads"
        if disabled or options.no_plugin:
            reason = f"{f'{DISABLE_VARIABLE}={disabled}' if disabled else '--no-plugin'} disables them"
        print(f"advbench: warning: no plugin registers any component: {reason}", file=sys.stderr)
    return registry


def find_suite(name: str, options: argparse.Namespace) -> Suite:
    """The suite of this name or file; those that plugins register are looked for only where the core has none.

    Raises:
        UsageError: There is no such suite, or its file is unreadable.
    """
    if name in shipped_suites() or Path(name).suffix == ".toml":
        return load_suite(name)
    files = tuple(file.resolve() for file in (*named_files(), *options.plugin))
    return load_suite(name, discover((), files, without=options.no_plugin).studies)


def plugin_files(options: argparse.Namespace) -> tuple[Path, ...]:
    """The single files that are plugins: those of the environment, the suite and the flags, none twice."""
    suite = getattr(options, "suite", None)
    of_suite = find_suite(suite, options).plugins if suite else ()
    return tuple(dict.fromkeys(file.resolve() for file in (*named_files(), *map(Path, of_suite), *options.plugin)))


def open_store(options: argparse.Namespace) -> Store:
    """The store of ``--store``."""
    try:
        return Store(Path(options.store).expanduser())
    except RuntimeError as error:
        raise UsageError(f"--store {options.store}: {error}") from error


def data_sources(options: argparse.Namespace, console: Console) -> DataSources:
    """Where datasets may look, saying on stderr when something is downloaded."""
    return DataSources(
        cache_folder() / "datasets", options.data_dir, announce=lambda line: console.print(line, markup=False)
    )


def messages() -> Console:
    """The console of progress and messages: stderr."""
    return Console(stderr=True, highlight=False)


def tables(stream: TextIO | None = None) -> Console:
    """The console of tables: stdout, or another stream; wide, plain and without padding where it is no terminal."""
    stream = stream or sys.stdout
    if stream.isatty():
        return _Console(highlight=False, file=stream)
    return _Console(highlight=False, width=_PIPE_WIDTH, file=cast("IO[str]", _Unpadded(stream)))


class _Console(Console):
    """A console that lets its caller decide what a reader that goes away means."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _Unpadded(io.TextIOBase):
    """Passes text on without the blanks that tables put at the ends of lines."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(_PADDING.sub("\n", text))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


def set_up_logging(console: Console, verbosity: int) -> None:
    """Sends warnings of advbench's own to stderr; with ``-v`` what it does, with ``-q`` errors alone."""
    level = {-1: logging.ERROR, 0: logging.WARNING}.get(verbosity, logging.INFO)
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    logger = logging.getLogger("advbench")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
