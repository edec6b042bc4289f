"""Opens what commands and the Python API share: plugins, the store, datasets' folders, consoles and the log."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.logging import RichHandler
from rich.segment import Segment

from advbench.api.component import closest
from advbench.discovery.entry_points import DISABLE_VARIABLE, named_files
from advbench.errors import PluginError, UsageError, listed
from advbench.option_names import option
from advbench.printable import one_line, printable
from advbench.session.options import LoadOptions, cache_folder
from advbench.specs import Suite, load_suite, shipped_suites
from advbench.store import Store

if TYPE_CHECKING:  # these import torch, which commands that only show stored numbers do not need
    from advbench.api import DataSources
    from advbench.discovery.registry import Registry

__all__ = [
    "CORE",
    "PlainTextConsole",
    "data_sources",
    "find_suite",
    "messages",
    "open_registry",
    "open_store",
    "plugin_files",
    "print_line",
    "set_up_logging",
    "tables",
]

CORE = ("advbench.executors.plugin", "advbench.report.plugin")
"""The modules of advbench itself that register components."""

_PIPE_WIDTH = 200
_PADDING = re.compile(r"[ ]+\n")


def open_registry(
    options: LoadOptions,
    files: Sequence[Path] | None = None,
    fault: Callable[[Registry], str] | None = None,
) -> Registry:
    """Loads all plugins and prints one line on stderr for each problem.

    Args:
        options: Which plugins to load.
        files: The single files that are plugins; without, those of the environment and of ``options``.
        fault: Returns what is wrong with plugins that the command needs, or an empty text.

    Raises:
        PluginError: ``fault`` reports something; no other problem is printed then.
        UsageError: ``--no-plugin`` names a plugin that does not exist.
    """
    from advbench.discovery.loading import discover

    files = plugin_files(options.plugin) if files is None else files
    registry = discover(CORE, files, without=options.no_plugin, strict=options.strict_plugins)
    known = {word for plugin in registry.left_out for word in (plugin.name, plugin.distribution)} | {"*"}
    for name in options.no_plugin:
        if name not in known:
            names = [plugin.name for plugin in registry.plugins if plugin.name != "core" and not plugin.from_file]
            hint = closest(name, names) or f"there are: {listed(names)}"
            raise UsageError(f"{option('no_plugin', name)}: no plugin or distribution has this name; {hint}")
    problem_of_needed = fault(registry) if fault else ""
    if problem_of_needed:
        raise PluginError(problem_of_needed)
    for problem in registry.problems:
        print(f"advbench: warning: {one_line(str(problem))}", file=sys.stderr)
    if not any(registry.all(kind) for kind in ("attacks", "defenses", "models", "datasets")):
        disabled = os.environ.get(DISABLE_VARIABLE)
        reason = "none is installed or none loads"
        if disabled or options.no_plugin:
            reason = f"{f'{DISABLE_VARIABLE}={disabled}' if disabled else option('no_plugin')} disables them"
        print(f"advbench: warning: no plugin registers any component: {one_line(reason)}", file=sys.stderr)
    return registry


def find_suite(name: str, options: LoadOptions) -> Suite:
    """The suite of this name or file; plugins are loaded only where the core has no suite of this name.

    Raises:
        UsageError: There is no such suite, or its file is unreadable.
    """
    if name in shipped_suites() or Path(name).suffix == ".toml":
        return load_suite(name)
    from advbench.discovery.loading import discover

    return load_suite(name, discover((), plugin_files(options.plugin), without=options.no_plugin).studies)


def plugin_files(files: Iterable[str | Path]) -> tuple[Path, ...]:
    """The single files that are plugins: those of the environment, then those given, without duplicates."""
    return tuple(dict.fromkeys(Path(os.path.realpath(file)) for file in (*named_files(), *files)))


def open_store(options: LoadOptions) -> Store:
    """The store of ``--store``."""
    try:
        return Store(options.store.expanduser().absolute())  # the working directory may change in a session
    except RuntimeError as error:
        raise UsageError(f"{option('store', options.store)}: {error}") from error


def data_sources(options: LoadOptions, console: Console) -> DataSources:
    """Where datasets are searched. The console shows a line for each download."""
    from advbench.api import DataSources

    return DataSources(cache_folder() / "datasets", options.data_dir, announce=lambda line: print_line(console, line))


def messages() -> Console:
    """The console for progress and messages: stderr."""
    return PlainTextConsole(stderr=True)


def tables(stream: TextIO | None = None) -> Console:
    """The console for tables: stdout or another stream.

    Output to a pipe is plain, without trailing blanks, and wide unless the environment variable ``COLUMNS`` has the
    number of columns.
    """
    stream = stream or sys.stdout
    if stream.isatty():
        return _TableConsole(file=stream)
    columns = "" if isinstance(stream, io.StringIO) else os.environ.get("COLUMNS", "")
    width = int(columns) if re.fullmatch(r"[1-9][0-9]{1,3}", columns) else _PIPE_WIDTH
    return _TableConsole(width=width, file=cast("IO[str]", _Unpadded(stream)))


def print_line(console: Console, line: str) -> None:
    """Prints text without markup, with escapes for characters that do not print; a terminal wraps it between words."""
    console.print(printable(line), markup=False, soft_wrap=not console.is_terminal)


class PlainTextConsole(Console):
    """A console on which text has no effect but to be shown.

    Text is not searched for markup or the names of emoji, and control characters, bidirectional marks and other
    characters that do not print are shown as escapes. Styles and cursor movements that advbench asks for still work.

    Args:
        stderr: Whether to write to stderr.
        file: Where to write otherwise; stdout without it.
        width: Number of columns; that of the terminal without it.
    """

    def __init__(self, *, stderr: bool = False, file: IO[str] | None = None, width: int | None = None) -> None:
        super().__init__(stderr=stderr, file=file, width=width, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Renders with escapes in place of characters that do not print; a line break stays one."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, keep="\n"), segment.style)


class _TableConsole(PlainTextConsole):
    """A console that raises BrokenPipeError, so that its caller decides what to do."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _Unpadded(io.TextIOBase):
    """A stream that removes trailing blanks from the lines written to it."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(_PADDING.sub("\n", text))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


def set_up_logging(console: Console, verbosity: int) -> None:
    """Sends the log of advbench to stderr: warnings; with ``-v`` also information, with ``-q`` only errors."""
    level = {-1: logging.ERROR, 0: logging.WARNING}.get(verbosity, logging.INFO)
    handler = RichHandler(console=console, show_time=False, show_path=False, markup=False)
    logger = logging.getLogger("advbench")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
