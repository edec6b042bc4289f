"""``advbench cache``: looks after the store of results."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from advbench.cli.flags import add_store
from advbench.cli.parser import CommandParser, HelpFormatter

ACTIONS = {
    "ls": "show the runs, what they take, and what no run refers to",
    "verify": "read every entry and say which are not whole; deletes nothing",
    "gc": "delete what no run refers to, damaged entries, and what killed writers have left",
    "rm": "delete runs, and what they alone refer to",
}


class _ActionParser(CommandParser):
    """A parser that itself refuses what it does not know, with the nearest of its own flags."""

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> Any:
        """Parses all arguments."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {unknown[0]}")
        return parsed, unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the actions, each with its flags."""
    names = "|".join(ACTIONS)
    actions = parser.add_subparsers(
        dest="action", metavar=names, required=True, parser_class=_ActionParser, help="what to do"
    )
    parsers = {
        name: actions.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            allow_abbrev=False,
            formatter_class=HelpFormatter,
        )
        for name, text in ACTIONS.items()
    }
    parsers["ls"].add_argument("--format", choices=("table", "json"), default="table", help="how to print")
    parsers["gc"].add_argument(
        "--older-than",
        type=_days,
        metavar="DAYS",
        help="delete only those unreferenced entries that are at least so old (default: an hour)",
    )
    parsers["rm"].add_argument(
        "runs", nargs="+", metavar="RUN", help="a run's id, its beginning, 'latest', or 'latest~1' for the one before"
    )
    for name in ("gc", "rm"):
        parsers[name].add_argument("--dry-run", action="store_true", help="say what would be deleted, and stop")
    for action in parsers.values():
        add_store(action)


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit code of ``verify`` is 1 where it finds anything."""
    from advbench.cli.cache_run import collect, list_runs, remove_runs, verify

    actions = {"ls": list_runs, "verify": verify, "gc": collect, "rm": remove_runs}
    return actions[options.action](options)


def _days(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of days of at least 0")
    return number
