"""The ``advbench`` command: runs the subcommand and turns exceptions into exit codes."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path

from advbench._version import __version__
from advbench.cli.parser import CommandParser, HelpFormatter
from advbench.cli.wrapping import wrapped
from advbench.errors import PluginError, UsageError, shorten_words
from advbench.printable import one_line, printable
from advbench.process.exits import ProcessExitError, end_within, exits_refused
from advbench.process.gc_tuning import tune_gc

__all__ = ["COMMANDS", "SHELLS", "main"]

COMMANDS = {
    "matrix": "run every combination of attacks and defenses and show the leaderboard",
    "leaderboard": "show the leaderboard of a stored run",
    "report": "write a stored run as one HTML page",
    "figures": "draw the figures of a stored run as PNG, SVG or PDF",
    "audit": "check a run for signs that its numbers cannot be trusted",
    "compare": "compare two defenses, models or attacks of a run, or two runs, on the same samples",
    "reproduce": "run the experiments of a paper and report which of its claims hold",
    "artefact": "write what an attack or a defense of a run has fitted to data, such as a patch, into a file",
    "cache": "list, verify and clean the store of results",
    "train": "train the weights of a model or a defense",
    "list": "list attacks, defenses, models and datasets",
    "info": "show the parameters, source and plugin of a component, or what a suite contains",
    "plugins": "list the plugins, what they register, and their problems",
    "check": "check that components follow the rules of the plugin API",
    "new-plugin": "create a small, complete package for a component or a study of your own",
    "doctor": "check the installation and say how to fix problems",
}
"""The subcommands with their help texts, each in the module of its name."""

SHELLS = ("bash", "zsh", "fish")
"""Shells for which ``--print-completion`` has a script."""

_SECONDS_TO_END = 5.0
"""How long threads and atexit hooks of plugins may run after the command."""

OK, SOME_FAILED, USAGE, INTERNAL, PLUGIN, INTERRUPTED = 0, 1, 2, 3, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    0: success; 1: some cells failed; 2: usage error; 3: internal error; 4: plugin failure under
    ``--strict-plugins`` or in ``advbench check``; 130: interrupted.
    """
    code = _main(list(sys.argv[1:] if arguments is None else arguments))
    if arguments is None:  # the process ends with this command
        end_within(_SECONDS_TO_END, code)
    return code


def _main(words: list[str]) -> int:
    # torch reads this when it is imported. Threads that wait actively make a busy machine several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    prog = f"advbench {_command(words)}".strip()
    _prepare_streams()
    tune_gc()
    try:
        return _run(words)
    except UsageError as error:
        return _fail(prog, error, USAGE)
    except PluginError as error:
        return _fail(prog, error, PLUGIN)
    except KeyboardInterrupt:
        print(one_line(f"{prog}: interrupted"), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout is gone; this keeps the interpreter from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(prog, OSError(f"{error.strerror or error}{where}"), USAGE)
    except Exception:
        print(printable(traceback.format_exc(), keep="\n"), end="", file=sys.stderr)
        print(one_line(f"{prog}: internal error, see the traceback above; please report it"), file=sys.stderr)
        return INTERNAL


def _run(words: list[str]) -> int:
    parser, subparsers = _parsers([_command(words)])
    parsed, unknown = parser.parse_known_args(words)
    if unknown:
        (subparsers.choices[parsed.command] if parsed.command else parser).error(
            f"unrecognized arguments: {unknown[0]}"
        )
    if parsed.print_completion is not None:
        from advbench.cli.completion import completion_script

        print(completion_script(_parsers(COMMANDS)[0], parsed.print_completion))
        return OK
    if parsed.command is None:
        parser.print_help()
        return OK
    parsed.words = words
    try:
        with exits_refused():
            return int(parsed.handler(parsed))
    except ProcessExitError as error:
        raise RuntimeError(f"a component called {error}") from error
    except SystemExit as error:
        raise RuntimeError(f"a component left the program with sys.exit({error.code!r})") from error


def _command(words: list[str]) -> str:
    """The command among the words of the command line, as the user spells it; nothing where there is none."""
    if words[:1] == ["--print-completion"]:
        return ""
    return next((word for word in words if not word.startswith("-")), "")


def _parsers(
    with_arguments: Iterable[str],
) -> tuple[CommandParser, argparse._SubParsersAction[CommandParser]]:
    """The parser of the command line, and those of its commands.

    Args:
        with_arguments: The commands whose modules are imported, so that they declare their arguments.
    """
    parser = CommandParser(
        prog="advbench",
        description="A plugin-based benchmark for adversarial robustness: does this defense really work?",
        epilog="'advbench COMMAND --help' shows the flags. Start with 'advbench matrix' without arguments.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"advbench {__version__}")
    parser.add_argument(
        "--print-completion", choices=SHELLS, help="print a script that completes commands and flags in this shell"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=CommandParser)
    for name, help_text in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=help_text, description=_sentence(help_text), allow_abbrev=False, formatter_class=HelpFormatter
        )
        if name in with_arguments:
            module = importlib.import_module(f"advbench.cli.{name.replace('-', '_')}_command")
            module.add_arguments(subparser)
            subparser.set_defaults(handler=module.run)
    return parser, subparsers


def _prepare_streams() -> None:
    """Discards output to closed streams, and replaces characters that a stream cannot encode."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  open until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _fail(prog: str, error: Exception, code: int) -> int:
    print(wrapped(one_line(f"{prog}: error: {shorten_words(str(error))}")), file=sys.stderr)
    return code


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
