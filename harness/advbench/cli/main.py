"""The ``advbench`` command: finds the subcommand, runs it, turns what is raised into an exit code."""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from advbench import __version__
from advbench.cli.parser import CommandParser, HelpFormatter
from advbench.errors import PluginError, UsageError
from advbench.process.exits import ProcessExitError, exits_refused
from advbench.process.gc_tuning import tune_gc

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "matrix": "run every combination of attacks and defenses and show the leaderboard",
    "leaderboard": "show the leaderboard of an earlier run again",
    "report": "write an earlier run as one page for the browser",
    "figures": "draw an earlier run's figures for print",
    "audit": "look for what says that a run's numbers are not to be believed",
    "compare": "compare two defenses of a run, or two runs, on the same samples",
    "reproduce": "run a paper's experiments and say which of its claims hold",
    "cache": "look after the store of results: what is in it, whether it is whole, what can go",
    "train": "train a model's weights by its recipe",
    "list": "list attacks, defenses, models, datasets",
    "info": "show a component's parameters, plugin and source",
    "plugins": "show what each plugin registers, and problems",
    "check": "hold components to the contracts that plugins keep",
    "new-plugin": "write a small complete package for a component of your own",
    "doctor": "check the installation, and say how to mend what fails",
}
"""The subcommands, each in the module of its name, with what they do."""

OK, SOME_FAILED, USAGE, INTERNAL, PLUGIN, INTERRUPTED = 0, 1, 2, 3, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    0: all well; 1: some cells failed; 2: usage error; 3: internal error; 4: plugin failure under
    ``--strict-plugins`` or in ``advbench check``; 130: interrupted.
    """
    # Read when torch is first imported. Threads that spin while they wait make a busy machine several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = next((word for word in words if not word.startswith("-")), "")
    prog = f"advbench {command}".strip()
    _prepare_streams()
    tune_gc()
    try:
        return _run(words)
    except UsageError as error:
        return _fail(prog, error, USAGE)
    except PluginError as error:
        return _fail(prog, error, PLUGIN)
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; keep the interpreter from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _fail(prog, OSError(f"{error.strerror or error}{where}"), USAGE)
    except Exception:
        traceback.print_exc()
        print(f"{prog}: internal error, see the traceback above; please report it", file=sys.stderr)
        return INTERNAL


def _run(words: list[str]) -> int:
    parser = CommandParser(
        prog="advbench",
        description="A plugin-based benchmark for adversarial robustness: does this defense really work?",
        epilog="'advbench COMMAND --help' tells more. 'advbench matrix' without arguments is a good beginning.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"advbench {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=CommandParser)
    chosen = next((word for word in words if not word.startswith("-")), None)
    for name, help_text in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=help_text, description=_sentence(help_text), allow_abbrev=False, formatter_class=HelpFormatter
        )
        if name == chosen:
            module = importlib.import_module(f"advbench.cli.{name.replace('-', '_')}_command")
            module.add_arguments(subparser)
            subparser.set_defaults(handler=module.run, words=words)
    parsed, unknown = parser.parse_known_args(words)
    if unknown:
        (subparsers.choices[parsed.command] if parsed.command else parser).error(
            f"unrecognized arguments: {unknown[0]}"
        )
    if parsed.command is None:
        parser.print_help()
        return OK
    try:
        with exits_refused():
            return int(parsed.handler(parsed))
    except ProcessExitError as error:
        raise RuntimeError(f"a component called {error}") from error
    except SystemExit as error:
        raise RuntimeError(f"a component left the program with sys.exit({error.code!r})") from error


def _prepare_streams() -> None:
    """Lets output go nowhere where it is closed, and replaces what its encoding does not have."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  open until the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _fail(prog: str, error: Exception, code: int) -> int:
    print(f"{prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
