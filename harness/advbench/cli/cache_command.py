"""``advbench cache``: inspects and cleans the store of results."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from advbench.cli.flags import add_store
from advbench.cli.parser import CommandParser, HelpFormatter

if TYPE_CHECKING:
    from advbench.store import Store
    from advbench.store.inventory import File, StoreContents

ACTIONS = {
    "ls": "list the runs with their sizes, and entries that no run refers to",
    "verify": "read every entry and list those that are damaged; deletes nothing",
    "gc": "delete entries that no run refers to, damaged entries, and files left by killed processes",
    "rm": "delete runs, and entries that only they refer to",
}

_DAY = 86400.0
_NOT_READ_AGAIN = (
    "it counts as missing; 'advbench cache gc' deletes it. The numbers of finished cells do not need it; to compute it "
    "again, repeat the run's command with --rerun all"
)
_ADVICE = {
    "damaged": "it counts as missing; 'advbench cache gc' deletes it, and the run's command computes it again",
    "damaged adversarial": _NOT_READ_AGAIN,
    "damaged clean": _NOT_READ_AGAIN,
    "damaged folder": "it is a folder where the store keeps a file; move it out of the store, or delete it",
    "damaged manifest": "repeat the run's command, or delete the run: advbench cache rm {key}",
    "unreadable": "check its permissions and the disk",
    "foreign": "advbench has not written it; move it out of the store, or delete it",
    "left behind": "'advbench cache gc' deletes it",
    "being written": "nothing to do; if it still exists in an hour, 'advbench cache gc' deletes it",
}
"""What the user should do about a file, by its state, and by its kind if that has advice of its own."""


class _ActionParser(CommandParser):
    """A parser that itself reports unknown flags, with the nearest of its own."""

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
        help="minimum age of the unreferenced entries that are deleted (default: an hour)",
    )
    parsers["rm"].add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a run: its id, the first characters of its id, its name, 'latest', or 'latest~1' for the run before the "
        "latest",
    )
    for name in ("gc", "rm"):
        parsers[name].add_argument("--dry-run", action="store_true", help="show what would be deleted, and exit")
    for action in parsers.values():
        add_store(action)


def run(options: argparse.Namespace) -> int:
    """Runs the command; the exit code of ``verify`` is 1 if an entry is damaged."""
    actions = {"ls": _list_runs, "verify": _verify, "gc": _collect, "rm": _remove_runs}
    return actions[options.action](options)


def _list_runs(options: argparse.Namespace) -> int:
    """Lists the runs and the contents of the store."""
    import json
    import time

    from advbench.cli.cache_tables import described, kinds_table, runs_table
    from advbench.session.opening import print_line, tables
    from advbench.store import SCHEMA
    from advbench.store.inventory import read_contents

    store, exists = _open(options, 0)
    contents = read_contents(store)
    if options.format == "json":
        print(json.dumps(described(store, contents), indent=2))
        return 0
    if not exists:
        return 0
    console = tables()
    if contents.runs:
        console.print(runs_table(contents, time.time(), console.width))
    else:
        console.print("no runs")
    console.print(kinds_table(contents))
    older = [run.name for run in contents.runs if run.manifest.get("schema") != SCHEMA]
    if older:
        print_line(console, f"of an earlier advbench, whose results are shown but not used again: {', '.join(older)}")
        print_line(console, "  'advbench cache rm RUN …' deletes them")
    if contents.unreferenced() or contents.inventory.left_behind:
        print_line(console, "'advbench cache gc' deletes entries that no run refers to and files that are left behind")
    return 0


def _verify(options: argparse.Namespace) -> int:
    """Reads every entry; the exit code is 1 if an entry is damaged or a file should not be there."""
    from advbench.cli.cache_tables import counted, shown_path, size_text
    from advbench.session.opening import print_line, tables
    from advbench.store.inventory import scan, total_size

    store, exists = _open(options, -1)
    if not exists:
        return 0
    inventory, console = scan(store), tables()
    files = inventory.files()
    problems = _damaged(store, files)
    problems += [("left behind", file) for file in inventory.left_behind]
    problems += [("foreign", file) for file in inventory.foreign]
    for state, file in [*problems, *(("being written", file) for file in inventory.being_written)]:
        print_line(console, f"{state}: {shown_path(file)}")
        of_kind = f"{state} {file.kind}"
        print_line(console, f"  → {_ADVICE[of_kind if of_kind in _ADVICE else state].format(key=file.key)}")
    total = f"{counted(len(files), 'entry', 'entries')}, {size_text(total_size(files))}"
    if not problems:
        print_line(console, f"{total}: all are intact")
        return 0
    counts = Counter(state.removesuffix(" manifest").removesuffix(" folder") for state, _ in problems)
    print_line(console, f"{total}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    return 1


def _damaged(store: Store, files: list[File]) -> list[tuple[str, File]]:
    """The files that are damaged or unreadable, each after its state."""
    from advbench.store.inventory import check

    damaged: list[tuple[str, File]] = []
    for file in _with_progress(files):
        state = check(store, file)
        if state in ("damaged", "unreadable"):
            what = " folder" if file.path.is_dir() else " manifest" if file.kind == "runs" else ""
            damaged.append((state + what if state == "damaged" else state, file))
    return damaged


def _collect(options: argparse.Namespace) -> int:
    """Deletes what no run refers to, what is damaged, and what is left behind."""
    from advbench.cli.cache_tables import by_kind, counted, freed, shown_path, size_text
    from advbench.session.opening import print_line, tables
    from advbench.store.inventory import HOUR, check, read_contents, remove, total_size

    store, exists = _open(options, -1)
    if not exists:
        return 0
    console, least_age = tables(), HOUR if options.older_than is None else options.older_than * _DAY
    before = read_contents(store)
    unreferenced = set(_unreferenced(before, least_age))
    others = [file for file in before.inventory.files() if file.kind != "runs" and file not in unreferenced]
    damaged = {file for file in _with_progress(others) if check(store, file) == "damaged" and not file.path.is_dir()}
    # Reading takes a while: meanwhile runs may have started, and entries may have been computed again.
    contents = read_contents(store)
    unreferenced = set(_unreferenced(contents, least_age))
    groups = {
        "no run refers to": [file for file in contents.inventory.files() if file in unreferenced],
        "damaged": [file for file in contents.inventory.files() if file in damaged and file not in unreferenced],
        "left behind": contents.inventory.left_behind,
    }
    files = [file for group in groups.values() for file in group]
    deleted = set(files if options.dry_run else remove(store, files))
    for state, group in groups.items():
        if group := [file for file in group if file in deleted]:
            print_line(console, f"{state}: {by_kind(group)}, {size_text(total_size(group))}")
    print_line(console, freed(deleted, dry_run=options.dry_run))
    for manifest in contents.damaged:
        print_line(
            console, f"kept: {shown_path(manifest)} is damaged, so the entries of its run are unknown; until you"
        )
        print_line(
            console, f"  repeat its command or 'advbench cache rm {manifest.key}', unreferenced entries are kept"
        )
    recent = [file for file in contents.unreferenced() if file not in deleted]
    if recent and not contents.damaged:
        age = "an hour" if options.older_than is None else counted(options.older_than, "day", "days")
        print_line(console, f"kept: {by_kind(recent)} that no run refers to, less than {age} old; see --older-than")
    for file in contents.inventory.foreign:
        print_line(console, f"foreign, not touched: {shown_path(file)}")
    return 0


def _remove_runs(options: argparse.Namespace) -> int:
    """Deletes runs, and entries that only they refer to.

    Raises:
        UsageError: There is no such run, or it is unknown what it shares with others; nothing has been deleted.
        StoreError: A file cannot be deleted.
    """
    from advbench.cli.cache_tables import by_kind, freed
    from advbench.errors import UsageError
    from advbench.session.opening import print_line, tables
    from advbench.session.stored_runs import find_id
    from advbench.store.inventory import read_contents, remove

    store, _ = _open(options, -1)
    if not all(options.runs):
        raise UsageError("RUN is empty; 'advbench cache ls' lists the runs")
    names = list(dict.fromkeys(find_id(store, name, only=True) for name in options.runs))
    contents = read_contents(store)
    unknown = [file.key for file in contents.damaged if file.key not in names]
    if unknown:
        raise UsageError(
            f"the manifest of run {unknown[0]} is damaged, so the entries that it shares with others are unknown; "
            f"repeat its command first, or delete it, too: advbench cache rm {' '.join([*names, unknown[0]])}"
        )
    runs = [run for run in contents.runs if run.name in names]
    console = tables()
    entries = [file for file in contents.exclusive_files(runs) if file.kind != "runs"]
    manifests = contents.inventory.files(("runs", name) for name in names)
    if options.dry_run:
        deleted = [*manifests, *entries]
    else:
        deleted = remove(store, manifests)  # first, so that no run lacks entries if the rest fails
        held = read_contents(store).reference_counts  # again, for runs that have started meanwhile
        deleted += remove(store, [file for file in entries if (file.kind, file.key) not in held])
    print_line(console, f"{', '.join(names)}, and entries that no other run refers to: {by_kind(deleted)}")
    print_line(console, freed(deleted, dry_run=options.dry_run))
    if len(runs) < len(names):
        print_line(console, "a manifest was damaged; 'advbench cache gc' deletes the entries of its run")
    return 0


def _open(options: argparse.Namespace, verbosity: int) -> tuple[Store, bool]:
    """The store, and whether it exists; a line reports a store that does not exist.

    Raises:
        StoreError: The path is not a folder.
    """
    from advbench.errors import StoreError
    from advbench.session.opening import messages, open_store, print_line, set_up_logging
    from advbench.session.options import LoadOptions

    console, store = messages(), open_store(LoadOptions.of(vars(options)))
    set_up_logging(console, verbosity)
    exists = os.path.lexists(store.root)  # a link that leads in a circle is no missing store
    if exists and not store.root.is_dir():
        raise StoreError(f"store {store.root} is not a folder; give another with --store DIR")
    if not exists and options.action != "rm":
        print_line(console, f"there is no store at {store.root} yet; 'advbench matrix' creates it")
    return store, exists


def _unreferenced(contents: StoreContents, least_age: float) -> list[File]:
    """The unreferenced files that are old enough; none while a manifest is damaged and its references are unknown."""
    import time

    now = time.time()
    return [] if contents.damaged else [file for file in contents.unreferenced() if file.age(now) >= least_age]


def _with_progress(files: list[File]) -> Iterable[File]:
    """The files one after another, with a progress bar if stderr is a terminal."""
    from rich.progress import track

    from advbench.session.opening import messages

    console = messages()
    return track(files, "reading", console=console, transient=True, disable=not console.is_terminal)


def _days(text: str) -> float:
    try:
        number = float(text) if text.isascii() and "_" not in text else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e6:
        raise argparse.ArgumentTypeError(f"{text}: must be a number of days of at least 0")
    return number
