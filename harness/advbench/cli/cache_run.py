"""What ``advbench cache`` does: each action by the files of the store that it shows, checks or deletes."""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from advbench.errors import StoreError, UsageError
from advbench.session.opening import messages, open_store, set_up_logging, tables
from advbench.session.options import LoadOptions
from advbench.session.stored_runs import find_id
from advbench.store import SCHEMA, Store
from advbench.store.inventory import HOUR, KINDS, File, Run, Stock, check, remove, scan, size_of, take_stock

__all__ = ["collect", "list_runs", "remove_runs", "verify"]

_DAY = 86400.0
_LONGEST_NAME = 24
_ADVICE = {
    "damaged": "it counts as missing; 'advbench cache gc' deletes it, and repeating the run's command makes it anew",
    "damaged manifest": "repeat the run's command, or give the run up: advbench cache rm {key}",
    "unreadable": "mend its permissions, or those of the disk",
    "foreign": "advbench has not written it; move it out of the store, or delete it",
    "left behind": "'advbench cache gc' deletes it",
    "being written": "nothing; if it is still there in an hour, 'advbench cache gc' deletes it",
}
"""What to do about a file, by what it is."""

_WORDS = {
    "adversarial": ("adversarial", "adversarial"),
    "clean": ("clean", "clean"),
    "cells": ("cell", "cells"),
    "networks": ("network's answers", "networks' answers"),
    "runs": ("manifest", "manifests"),
    "temporary": ("temporary file", "temporary files"),
}
"""Kinds of files, of one and of several."""


def list_runs(options: argparse.Namespace) -> int:
    """Shows the runs, and what lies in the store."""
    store, there = _opened(options, 0)
    stock, now = take_stock(store), time.time()
    if options.format == "json":
        print(json.dumps(_described(store, stock), indent=2))
        return 0
    if not there:
        return 0
    console = tables()
    if stock.runs:
        console.print(_table_of_runs(stock, now))
    else:
        console.print("no runs")
    console.print(_table_of_kinds(stock))
    older = [run.name for run in stock.runs if run.manifest.get("schema") != SCHEMA]
    if older:
        _say(console, f"of an earlier advbench, whose results are shown and never used again: {', '.join(older)}")
        _say(console, "  'advbench cache rm RUN …' deletes them")
    if stock.unreferenced() or stock.inventory.left_behind:
        console.print("'advbench cache gc' deletes what no run refers to and what is left behind")
    return 0


def verify(options: argparse.Namespace) -> int:
    """Reads every entry; the exit code is 1 where anything is not as it should be."""
    store, there = _opened(options, -1)
    if not there:
        return 0
    inventory, console = scan(store), tables()
    found: list[tuple[str, File]] = []
    files = inventory.files()
    for file in _watched(files, "reading"):
        state = check(store, file)
        if state in ("damaged", "unreadable"):
            found.append((f"{state} manifest" if (state, file.kind) == ("damaged", "runs") else state, file))
    found += [("left behind", file) for file in inventory.left_behind]
    found += [("foreign", file) for file in inventory.foreign]
    for what, file in [*found, *(("being written", file) for file in inventory.being_written)]:
        _say(console, f"{what}: {_shown(file)}")
        _say(console, f"  → {_ADVICE[what].format(key=file.key)}")
    total = f"{_counted(len(files), 'entry', 'entries')}, {_in_words(size_of(files))}"
    if not found:
        _say(console, f"{total}: all are whole")
        return 0
    counts = Counter(what.partition(" manifest")[0] for what, _ in found)
    _say(console, f"{total}: {', '.join(f'{count} {what}' for what, count in counts.items())}")
    return 1


def collect(options: argparse.Namespace) -> int:
    """Deletes what no run refers to, what is damaged, and what is left behind."""
    store, there = _opened(options, -1)
    if not there:
        return 0
    console, least = tables(), HOUR if options.older_than is None else options.older_than * _DAY
    first = take_stock(store)
    waste = set(_unreferenced(first, least))
    looked_at = [file for file in first.inventory.files() if file.kind != "runs" and file not in waste]
    damaged = {file for file in _watched(looked_at, "reading") if check(store, file) == "damaged"}
    # Reading takes its time: runs may have begun, and entries may have been made anew.
    stock = take_stock(store)
    waste = set(_unreferenced(stock, least))
    doomed = {
        "no run refers to": [file for file in stock.inventory.files() if file in waste],
        "damaged": [file for file in stock.inventory.files() if file in damaged and file not in waste],
        "left behind": stock.inventory.left_behind,
    }
    files = [file for some in doomed.values() for file in some]
    gone = set(files if options.dry_run else remove(store, files))
    for what, some in doomed.items():
        if some := [file for file in some if file in gone]:
            _say(console, f"{what}: {_by_kind(some)}, {_in_words(size_of(some))}")
    _say(console, _freed(gone, dry=options.dry_run))
    for manifest in stock.damaged:
        _say(console, f"kept: {_shown(manifest)} is damaged, so that what its run refers to is not known; until you")
        _say(console, f"  repeat its command or 'advbench cache rm {manifest.key}', unreferenced entries are kept, too")
    young = [file for file in stock.unreferenced() if file not in gone]
    if young and not stock.damaged:
        age = "an hour" if options.older_than is None else _counted(options.older_than, "day", "days")
        _say(console, f"kept: {_by_kind(young)} that no run refers to, less than {age} old; see --older-than")
    for file in stock.inventory.foreign:
        _say(console, f"foreign, left as it is: {_shown(file)}")
    return 0


def remove_runs(options: argparse.Namespace) -> int:
    """Deletes runs, and what they alone refer to.

    Raises:
        UsageError: There is no such run, or what it shares cannot be told; nothing has been deleted.
        StoreError: A file cannot be deleted.
    """
    store, _ = _opened(options, -1)
    if not all(options.runs):
        raise UsageError("RUN is empty; 'advbench cache ls' shows the runs there are")
    names = list(dict.fromkeys(find_id(store, name) for name in options.runs))
    stock = take_stock(store)
    unknown = [file.key for file in stock.damaged if file.key not in names]
    if unknown:
        raise UsageError(
            f"the manifest of run {unknown[0]} is damaged, so that what it shares with others is not known; repeat its "
            f"command first, or remove it, too: advbench cache rm {' '.join([*names, unknown[0]])}"
        )
    runs = [run for run in stock.runs if run.name in names]
    console = tables()
    entries = [file for file in stock.alone(runs) if file.kind != "runs"]
    manifests = stock.inventory.files(("runs", name) for name in names)
    if options.dry_run:
        gone = [*manifests, *entries]
    else:
        gone = remove(store, manifests)  # first, so that no run lacks entries if the rest fails
        held = take_stock(store).holders  # anew, for runs that have begun meanwhile
        gone += remove(store, [file for file in entries if (file.kind, file.key) not in held])
    _say(console, f"{', '.join(names)}, and what no other run refers to: {_by_kind(gone)}")
    _say(console, _freed(gone, dry=options.dry_run))
    if len(runs) < len(names):
        _say(console, "a manifest was damaged; 'advbench cache gc' deletes what its run referred to")
    return 0


def _opened(options: argparse.Namespace, verbosity: int) -> tuple[Store, bool]:
    """The store, and whether there is one; where there is none, one line says so.

    Raises:
        StoreError: It is no folder.
    """
    console, store = messages(), open_store(LoadOptions.of(vars(options)))
    set_up_logging(console, verbosity)
    there = store.root.exists()
    if there and not store.root.is_dir():
        raise StoreError(f"store {store.root} is no folder; give another with --store DIR")
    if not there and options.action != "rm":
        _say(console, f"there is no store at {store.root} yet; 'advbench matrix' makes one")
    return store, there


def _unreferenced(stock: Stock, least: float) -> list[File]:
    """The unreferenced files that are old enough; none while a manifest's references are not known."""
    now = time.time()
    return [] if stock.damaged else [file for file in stock.unreferenced() if file.age(now) >= least]


def _described(store: Store, stock: Stock) -> dict[str, Any]:
    """All that ``ls`` shows, for programs."""
    inventory = stock.inventory
    return {
        "store": str(store.root),
        "runs": [
            {
                "run": run.name,
                "name": run.manifest.get("name"),
                "command": run.manifest.get("command"),
                "created": run.manifest.get("created"),
                "updated": run.manifest.get("updated"),
                "schema": run.manifest.get("schema"),
                "cells": {"stored": run.stored, "all": run.cells},
                "bytes": size_of(inventory.files(run.references)),
                "bytes_alone": size_of(stock.alone([run])),
            }
            for run in stock.runs
        ],
        "totals": {what: {"files": len(files), "bytes": size_of(files)} for what, files in _totals(stock)},
    }


def _totals(stock: Stock) -> Iterator[tuple[str, Sequence[File]]]:
    """The files by kind, and those that are not as they should be."""
    files = stock.inventory.files()
    for kind in KINDS:
        yield kind, [file for file in files if file.kind == kind]
    yield "unreferenced", stock.unreferenced()
    yield "damaged_manifests", stock.damaged
    yield "left_behind", stock.inventory.left_behind
    yield "being_written", stock.inventory.being_written
    yield "foreign", stock.inventory.foreign


def _table_of_runs(stock: Stock, now: float) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    for heading in ("run", "suite", "created", "used", "cells", "size", "alone"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("run", "suite") else "right")
    table.add_column("command", no_wrap=True, overflow="ellipsis", ratio=1)  # takes the room that is left
    for run in stock.runs:
        table.add_row(*(Text(text) for text in _row(stock, run, now)))
    return table


def _row(stock: Stock, run: Run, now: float) -> Iterator[str]:
    name = str(run.manifest.get("name"))
    yield run.name
    yield name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    yield _age(run.manifest, "created", now)
    yield _age(run.manifest, "updated", now)
    yield f"{run.stored}/{run.cells}"
    yield _in_words(size_of(stock.inventory.files(run.references)))
    yield _in_words(size_of(stock.alone([run])))
    yield str(run.manifest.get("command"))


def _table_of_kinds(stock: Stock) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("what", "files", "size"):
        table.add_column(heading, no_wrap=True, justify="left" if heading == "what" else "right")
    for what, files in _totals(stock):
        if files or what in (*KINDS, "unreferenced", "left_behind"):
            name = "no run refers to" if what == "unreferenced" else what.replace("_", " ")
            table.add_row(name, f"{len(files):,}", _in_words(size_of(files)))
        if what == KINDS[-1]:
            everything = stock.inventory.files()
            table.add_row("all", f"{len(everything):,}", _in_words(size_of(everything)), end_section=True)
    return table


def _age(manifest: Mapping[str, Any], field: str, now: float) -> str:
    """How long ago something was, in the largest unit that tells it."""
    try:
        seconds = now - datetime.fromisoformat(manifest[field]).timestamp()
    except (KeyError, TypeError, ValueError):
        return "—"
    for unit, length, least in (("d", _DAY, 2 * _DAY), ("h", HOUR, HOUR), ("min", 60.0, 60.0)):
        if seconds >= least:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _by_kind(files: Iterable[File]) -> str:
    """How many of each kind, such as ``2 adversarial, 1 clean``."""
    counts = Counter(file.kind for file in files)
    return ", ".join(_counted(counts[kind], *_WORDS[kind]) for kind in _WORDS if counts[kind])


def _freed(files: Iterable[File], *, dry: bool) -> str:
    files = list(files)
    if not files:
        return "there is nothing to delete"
    return f"{'would free' if dry else 'freed'} {_in_words(size_of(files))} in {_counted(len(files), 'file', 'files')}"


def _counted(count: float, one: str, several: str) -> str:
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {one if count == 1 else several}"


def _in_words(size: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


def _shown(file: File) -> str:
    """A path for people, whatever signs are in it."""
    return "".join(sign if sign.isprintable() else "�" for sign in file.name)


def _watched(files: list[File], what: str) -> Iterable[File]:
    """The files one by one, with a bar on stderr where somebody watches."""
    console = messages()
    return track(files, what, console=console, transient=True, disable=not console.is_terminal)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, soft_wrap=True)
