"""``advbench reproduce``: runs a study that a plugin registers, such as a paper's experiments, and reports on it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TextIO

from advbench.api.commands import StudyCommand
from advbench.cli.flags import add_data_dir, add_how_to_run, add_plugin_flags, add_store, add_verbosity
from advbench.cli.interruption import resumable
from advbench.cli.parser import CommandParser, HelpFormatter, suggest
from advbench.discovery.entry_points import named_files
from advbench.discovery.studies import Studies, discover_studies
from advbench.errors import UsageError
from advbench.process.gc_tuning import gc_paused
from advbench.session.values import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags that all studies share and, if only one study is installed, its own flags."""
    studies = discover_studies()
    _declare(parser, studies, _only(studies))
    if isinstance(parser, CommandParser):
        parser.delegate = partial(_parser_for, parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command; whenever it is interrupted, it says how to go on.

    Raises:
        UsageError: The study that was parsed is not the one whose flags were declared.
    """
    command: StudyCommand | None = options.study_command
    if command is None or options.study != command.name:
        raise UsageError(f"give the name of the study first: advbench reproduce {options.study} …")

    def body(stdout: TextIO) -> int:
        with gc_paused():
            from advbench.session.studies import StudySession

        return command.run(StudySession(options, stdout))

    return resumable(options, body)


def _parser_for(parser: CommandParser, words: Sequence[str]) -> CommandParser:
    """The parser for the study that the words name; without a name, for the only study if there is just one."""
    where = CommandParser(add_help=False, allow_abbrev=False)
    add_plugin_flags(where)
    given, _ = where.parse_known_args(words)
    studies = discover_studies(given.no_plugin)
    name = _named(words, studies)
    files = [*named_files(), *given.plugin]
    if name is None and files:
        with gc_paused():  # a file may register components, too, which need torch
            from advbench.discovery.loading import discover

        studies = discover((), files, without=given.no_plugin).studies
        name = _named(words, studies)
    made = CommandParser(
        prog=parser.prog, description=parser.description, allow_abbrev=False, formatter_class=HelpFormatter
    )
    _declare(made, studies, _only(studies) if name is None else studies.command(name))
    return made


def _only(studies: Studies) -> StudyCommand | None:
    """The study, if there is exactly one."""
    names = studies.names("commands")
    return studies.command(names[0]) if len(names) == 1 else None


def _named(words: Sequence[str], studies: Studies) -> str | None:
    """The first word that names a study. Words after a flag, which may be its value, come last."""
    at = [index for index, word in enumerate(words) if studies.holds("commands", word)]
    free = [index for index in at if index == 0 or not words[index - 1].startswith("-")]
    return words[(free or at)[0]] if at else None


def _declare(parser: argparse.ArgumentParser, studies: Studies, command: StudyCommand | None) -> None:
    """Declares the flags that all studies share, and those of one study."""
    names = studies.names("commands")
    what = parser.add_argument_group("what to reproduce")
    titles = "; ".join(f"{name}: {studies.command(name).help}" for name in names)
    named = what.add_argument(
        "study",
        type=partial(_study, studies),
        metavar="|".join(names) or "STUDY",
        help=f"the study to run ({titles.replace('%', '%%')})" if names else "the study to run; none is installed",
    )
    suggest(named, *names)
    if command is not None and command.add_arguments is not None:
        command.add_arguments(what)
    what.add_argument("--seed", type=at_least(0), metavar="N", help="seed of the subset and of all randomness")
    add_how_to_run(parser.add_argument_group("how to run"))
    where = parser.add_argument_group("files")
    where.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="write the report; the suffix sets the format: .md or .json; repeatable",
    )
    add_store(where)
    add_data_dir(where)
    add_plugin_flags(parser.add_argument_group("plugins"))
    add_verbosity(parser)
    parser.set_defaults(study_command=command)


def _study(studies: Studies, name: str) -> str:
    """The name of a study.

    Raises:
        UnknownNameError: There is none of this name.
    """
    studies.command(name)
    return name
